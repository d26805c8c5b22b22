//! AMF vectors, attacks and round trips.

use proptest::prelude::*;

use super::*;

fn encoded(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(values, &mut out);
    out
}

/// `connect` as encoders send it.
#[test]
fn a_connect_command_survives() {
    let values = [
        Value::from("connect"),
        Value::from(1.0),
        Value::Object(vec![
            ("app".into(), "live".into()),
            ("fpad".into(), false.into()),
            ("fourCcList".into(), Value::StrictArray(vec!["hvc1".into(), "av01".into()])),
        ]),
        Value::Null,
    ];
    let bytes = encoded(&values);
    assert_eq!(bytes[..10], *b"\x02\x00\x07connect");
    assert_eq!(decode_all(&bytes).unwrap(), values);
    assert_eq!(values[2].get("app").and_then(Value::as_text), Some("live"));
    let (first, used) = decode_prefix(&bytes, 2).unwrap();
    assert_eq!((first.len(), used), (2, 19));
}

#[test]
fn the_end_marker_may_be_missing_at_the_end_only() {
    let mut bytes = encoded(&[Value::EcmaArray(vec![("a".into(), 1.0.into())])]);
    let whole = decode_all(&bytes).unwrap();
    bytes.truncate(bytes.len() - 3);
    assert_eq!(decode_all(&bytes).unwrap(), whole);
    bytes.push(0x05);
    assert_eq!(decode_all(&bytes), Err(AmfError::Truncated));
}

#[test]
fn nesting_is_cut_off_long_before_the_stack() {
    for opener in [&b"\x03\x00\x01a"[..], b"\x08\0\0\0\x01\x00\x01a", b"\x0a\0\0\0\x01"] {
        assert_eq!(decode_all(&opener.repeat(10_000)), Err(AmfError::TooDeep));
        assert!(decode_all(&[opener.repeat(16), vec![0x05]].concat()).is_ok());
    }
    // AMF3 arrays inside AMF3 arrays, and objects inside objects.
    let array = [&[0x11][..], &b"\x09\x03\x01".repeat(10_000)].concat();
    assert_eq!(decode_all(&array), Err(AmfError::TooDeep));
    let object = [&[0x11][..], &b"\x0a\x0b\x01\x03a".repeat(10_000)].concat();
    assert_eq!(decode_all(&object), Err(AmfError::TooDeep));
    let mut deep = Value::Null;
    for _ in 0..40 {
        deep = Value::StrictArray(vec![deep]);
    }
    assert!(decode_all(&encoded(&[deep])).is_ok());
}

#[test]
fn counts_and_lengths_are_bounded_by_the_bytes_left() {
    assert_eq!(decode_all(b"\x0a\xff\xff\xff\xff\x05"), Err(AmfError::Truncated));
    assert_eq!(decode_all(b"\x02\xff\xffabc"), Err(AmfError::Truncated));
    assert_eq!(decode_all(b"\x0c\xff\xff\xff\xffabc"), Err(AmfError::Truncated));
    assert_eq!(decode_all(&[5; VALUES_MAX + 1]), Err(AmfError::TooManyValues));
    let array = [&b"\x0a\0\0\xff\xff"[..], &[5; 0xffff]].concat();
    assert_eq!(decode_all(&array), Err(AmfError::TooManyValues));
    assert_eq!(decode_all(b"\x11\x09\xff\xff\xff\xff\x01"), Err(AmfError::Truncated));
    assert_eq!(decode_all(b"\x11\x0d\xff\xff\xff\xff\x00"), Err(AmfError::Truncated));
    assert_eq!(decode_all(b"\x11\x0c\xff\xff\xff\xff"), Err(AmfError::Truncated));
    assert_eq!(decode_all(b"\x04"), Err(AmfError::UnknownMarker(4)));
    assert_eq!(decode_all(b"\x11\x0a\x07\x03a"), Err(AmfError::Externalizable));
}

#[test]
fn references_cannot_loop_or_multiply() {
    // An array that holds itself.
    assert_eq!(
        decode_all(b"\x0a\0\0\0\x01\x07\0\0").unwrap(),
        [Value::StrictArray(vec![Value::Null])]
    );
    assert_eq!(decode_all(b"\x07\0\x05"), Err(AmfError::BadReference(5)));
    assert_eq!(
        decode_all(b"\x11\x09\x03\x01\x09\x00").unwrap(),
        [Value::StrictArray(vec![Value::Null])]
    );
    assert_eq!(decode_all(b"\x11\x09\x02"), Err(AmfError::BadReference(1)));
    assert_eq!(decode_all(b"\x11\x06\x02"), Err(AmfError::BadReference(1)));
    // A text of 1,000 bytes, named 1,000 times.
    let mut bomb = vec![0x11, 0x09, 0x8f, 0x53, 0x01];
    bomb.extend_from_slice(&[0x06, 0x8f, 0x51]);
    bomb.extend_from_slice(&[b'x'; 1000]);
    bomb.extend_from_slice(&[0x06, 0x00].repeat(1000));
    assert_eq!(decode_all(&bomb), Err(AmfError::TooLarge));
}

#[test]
fn amf3_values() {
    let cases: [(&[u8], Value); 12] = [
        (b"\x00", Value::Undefined),
        (b"\x01", Value::Null),
        (b"\x03", Value::Bool(true)),
        (b"\x04\x7f", Value::Number(127.0)),
        (b"\x04\xff\xff\xff\xff", Value::Number(-1.0)),
        (b"\x06\x07abc", Value::Text("abc".into())),
        (b"\x08\x01\0\0\0\0\0\0\0\0", Value::Date(0.0)),
        (b"\x0c\x05\x01\x02", Value::Bytes(vec![1, 2])),
        (b"\x0d\x03\x00\xff\xff\xff\xff", Value::StrictArray(vec![Value::Number(-1.0)])),
        (
            b"\x09\x03\x03k\x03\x01\x02",
            Value::EcmaArray(vec![
                ("k".into(), Value::Bool(true)),
                ("0".into(), Value::Bool(false)),
            ]),
        ),
        (
            b"\x0a\x1b\x05Cl\x03a\x04\x01\x03b\x01\x01",
            Value::Object(vec![("a".into(), Value::Number(1.0)), ("b".into(), Value::Null)]),
        ),
        (b"\x11\x03\x00\x06\x03k\x03", Value::Object(vec![("k".into(), Value::Bool(true))])),
    ];
    for (bytes, expected) in cases {
        let input = [&[0x11], bytes].concat();
        assert_eq!(decode_all(&input), Ok(vec![expected]), "{bytes:x?}");
    }
    // The second object uses the class and the text of the first.
    let input = b"\x11\x09\x05\x01\x0a\x13\x01\x03a\x06\x05hi\x0a\x01\x06\x02";
    let item = Value::Object(vec![("a".into(), "hi".into())]);
    assert_eq!(decode_all(input), Ok(vec![Value::StrictArray(vec![item.clone(), item])]));
}

#[test]
fn text_that_is_not_utf8_is_replaced() {
    assert_eq!(decode_all(b"\x02\x00\x02\xff\x41").unwrap(), [Value::from("\u{fffd}A")]);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<f64>()
            .prop_filter("NaN is unequal to itself", |v| !v.is_nan())
            .prop_map(Value::Number),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::Text),
        Just(Value::Null),
        Just(Value::Undefined),
        (-1e12..1e12f64).prop_map(Value::Date),
        ".{0,20}".prop_map(Value::Xml),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let properties = prop::collection::vec(("[a-z]{1,8}", inner.clone()), 0..6);
        prop_oneof![
            properties.clone().prop_map(Value::Object),
            properties.prop_map(Value::EcmaArray),
            prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_round_trip(values in prop::collection::vec(value(), 0..8)) {
        let bytes = encoded(&values);
        prop_assert_eq!(decode_all(&bytes).unwrap(), values);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_all(&bytes);
        let _ = decode_all(&[&[0x11], &bytes[..]].concat());
    }
}
