use super::*;

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap()
}

fn typed<T: Serialize>(read: Read<T>) -> String {
    serde_json::to_string(&read.unwrap()).unwrap()
}

#[test]
fn text_takes_strings_and_numbers() {
    assert_eq!(text(raw(r#"" a\u00e9\n""#)).unwrap().unwrap(), " aé\n");
    assert_eq!(text(raw("1.10")).unwrap().unwrap(), "1.10");
    assert_eq!(text(raw("null")).unwrap(), None);
    assert_eq!(text(raw(r#""""#)).unwrap().unwrap(), "");
    for wrong in ["true", "[]", "{}", r#""\ud800""#] {
        assert!(text(raw(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn ids_keep_every_digit() {
    for digits in [
        "9007199254740993",
        "18446744073709551616",
        "123456789012345678901234567890",
        "0",
    ] {
        assert_eq!(id(raw(digits)).unwrap().unwrap(), digits);
        assert_eq!(id(raw(&format!("\"{digits}\""))).unwrap().unwrap(), digits);
    }
}

#[test]
fn numbers_are_read_exactly() {
    for (json, value) in [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("5.0", 5),
        ("1e3", 1000),
        ("1.25E+2", 125),
        ("1200e-2", 12),
        ("0e999999999999999999999", 0),
        (r#"" 128581\n""#, 128_581),
        (r#""-22""#, -22),
        ("9007199254740993.0", 9_007_199_254_740_993),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808.00", i64::MIN),
    ] {
        assert_eq!(number(raw(json)).unwrap(), Some(value), "{json}");
    }
    for nothing in ["null", r#""""#, r#""  ""#] {
        assert_eq!(number(raw(nothing)).unwrap(), None, "{nothing}");
    }
    for wrong in [
        "1.5",
        "1e-1",
        "9223372036854775808",
        "1e19",
        "1e999",
        "1e9999999999999999999",
        "true",
        "[1]",
        "{}",
        r#""five""#,
        r#""1 2""#,
        r#"".0""#,
        r#""0x10""#,
        r#""-""#,
        r#""1e""#,
        r#""0e""#,
        r#""0.0x""#,
        r#""NaN""#,
    ] {
        assert!(number(raw(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(
        unsigned(raw("18446744073709551615")).unwrap(),
        Some(u64::MAX)
    );
    assert!(unsigned(raw("-1")).is_err());
}

#[test]
fn floats_are_written_as_received() {
    for json in ["9", "9.0", "98.10", "-0.5", "1e2"] {
        assert_eq!(typed(float(raw(json))), json);
        assert_eq!(typed(float(raw(&format!("\" {json}\"")))), json);
    }
    assert!((float(raw("98.5")).unwrap().unwrap().get() - 98.5).abs() < f64::EPSILON);
    assert_eq!(float(raw("98.50")).unwrap().unwrap().to_string(), "98.50");
    assert_eq!(float(raw(r#""""#)).unwrap(), None);
    for wrong in ["1e999", "false", r#""NaN""#, r#""[1]""#, r#"".5""#, "[]"] {
        assert!(float(raw(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn flags_come_in_three_forms() {
    for yes in ["true", "1", r#""true""#, r#""True""#, r#""1""#] {
        assert_eq!(flag(raw(yes)).unwrap(), Some(true), "{yes}");
    }
    for no in ["false", "0", r#""false""#, r#""0""#] {
        assert_eq!(flag(raw(no)).unwrap(), Some(false), "{no}");
    }
    assert_eq!(flag(raw("null")).unwrap(), None);
    for wrong in ["2", r#""bool""#, "[]"] {
        assert!(flag(raw(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn lists_take_null_and_sometimes_a_single_value() {
    assert_eq!(typed(list(raw("null"), number)), "[]");
    assert_eq!(typed(list(raw(r#"[1, "2", null]"#), number)), "[1,2]");
    assert!(list(raw("1"), number).is_err());
    assert!(list(raw(r#"["a"]"#), number).is_err());
    assert_eq!(typed(one_or_many(raw("99"), number)), "[99]");
    assert_eq!(typed(one_or_many(raw("[99]"), number)), "[99]");
    assert_eq!(typed(one_or_many(raw("null"), number)), "[]");
    assert_eq!(typed(shape_kept(raw("99"), number)), "99");
    assert_eq!(typed(shape_kept(raw("[99]"), number)), "[99]");
    assert_eq!(typed(shape_kept(raw("null"), number)), "null");
    let many = shape_kept(raw("[1,2]"), number).unwrap().unwrap();
    assert_eq!(many.as_slice(), [1, 2]);
}

#[test]
fn strings_of_json_are_opened() {
    let numbers = |json| typed(json_in_string(raw(json), |raw| list(raw, number)));
    assert_eq!(numbers(r#""[1,2]\n""#), "[1,2]");
    assert_eq!(numbers("[1,2]"), "[1,2]");
    assert_eq!(numbers("null"), "[]");
    assert_eq!(numbers(r#""[\\\"1\\\"]""#), "[1]");
    for closed in [r#""""#, r#""[1""#, r#""5""#, r#""http://a""#] {
        assert_eq!(numbers(closed), closed);
    }
    for misfit in [r#""[\"a\"]""#, r#""{}""#] {
        assert!(json_in_string(raw(misfit), |raw| list(raw, number)).is_err());
    }
    assert!(json_in_string(raw("{}"), |raw| list(raw, number)).is_err());
    assert!(json_in_string(raw("5"), |raw| list(raw, number)).is_err());
    let text = json_in_string(raw(r#""x""#), number).unwrap().unwrap();
    assert_eq!(
        (text.typed(), text.clone()),
        (None, Opened::Text("x".into()))
    );
}

#[test]
fn a_string_that_holds_an_object_or_a_list_is_as_good() {
    assert_eq!(typed(list(raw(r#""[1,2]\n""#), number)), "[1,2]");
    assert_eq!(typed(list(raw(r#""[\\\"1\\\"]""#), number)), "[1]");
    assert_eq!(typed(one_or_many(raw(r#""[1]""#), number)), "[1]");
    assert_eq!(typed(one_or_many(raw(r#""1""#), number)), "[1]");
    assert_eq!(typed(shape_kept(raw(r#"" [1,2]""#), number)), "[1,2]");
    assert_eq!(typed(list(raw(r#"["a"]"#), text)), r#"["a"]"#);
    let objects = list(raw(r#"["{\"a\":1}"]"#), object::<serde_json::Value>);
    assert_eq!(typed(objects), r#"[{"a":1}]"#);
    for wrong in [r#""""#, r#""1""#, r#""null""#, r#""{}""#, r#""[1""#] {
        assert!(list(raw(wrong), number).is_err(), "{wrong}");
    }
    for wrong in [r#""""#, r#""[]""#, r#""{""#, r#""a""#] {
        assert!(object::<serde_json::Value>(raw(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn anything_is_kept_as_received() {
    assert_eq!(typed(anything(raw(r#"{"a" : 1.0}"#))), r#"{"a" : 1.0}"#);
    let string = anything(raw(r#""a\n""#)).unwrap().unwrap();
    assert_eq!(string.as_string().unwrap(), "a\n");
    assert_eq!(anything(raw("null")).unwrap(), None);
}
