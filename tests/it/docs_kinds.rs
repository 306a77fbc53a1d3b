//! The table of kinds in docs/tencent-setup.md agrees with the program.

use css_callbacks::{Kind, UrlField};

use crate::docs::page::table;

/// The first cells of a kind's row.
fn row(kind: Kind) -> [String; 5] {
    let field = kind.url_field().unwrap();
    let place = match field {
        UrlField::Template(_) if kind == Kind::StreamMix => "template, disused",
        UrlField::Template(_) => "template",
        UrlField::Console(_) => "template, console only",
        UrlField::PerTask(_) => "task",
        UrlField::Input(_) => "StreamLive input",
        other => panic!("the page has no word for {other:?}"),
    };
    let unsigned = if kind.may_be_unsigned() { "yes" } else { "" };
    [
        format!("`{}`", kind.slug()),
        kind.code().unwrap().to_string(),
        format!("`{}`", field.name()),
        place.to_owned(),
        unsigned.to_owned(),
    ]
}

#[test]
fn every_kind_has_its_field_in_the_table() {
    let rows = table("docs/tencent-setup.md", "Kind");
    let shown: Vec<&[String]> = rows.iter().map(|row| &row[..5]).collect();
    assert_eq!(shown, Kind::ALL.map(row));
}
