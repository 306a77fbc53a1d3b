//! The vectors of `css-callbacks`, against a program that shares no code with it.

use std::process::Command;

use crate::clients::run;
use crate::docs::page::root;

#[test]
fn python_computes_what_stands_in_the_vectors() {
    let program = root().join("crates/css-callbacks/vectors/check.py");
    let said = run(Command::new("python3").arg("-B").arg(program));
    let checked = said
        .lines()
        .filter(|line| line.ends_with("as they should be"));
    assert_eq!(checked.count(), 3, "{said}");
}
