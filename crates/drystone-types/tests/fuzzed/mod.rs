//! What holds for every path and for every value of a configuration: the bodies of the fuzz targets `path` and
//! `config`. The TOML around the values is read by a crate that has fuzzers of its own.

use drystone_types::path::{MAX_NAME_BYTES, MAX_PATH_BYTES, Name, split_path};
use drystone_types::{AckPolicy, ByteCount, parse_duration};

/// A path is refused, or its names are ones that a directory may hold and give the same path again.
pub fn path(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(names) = split_path(path) else {
        return;
    };
    assert!(path.len() <= MAX_PATH_BYTES);
    for name in &names {
        let text = name.as_str();
        assert!(!text.is_empty() && text.len() <= MAX_NAME_BYTES && text != "." && text != "..");
        assert!(!text.contains(['/', '\0']));
        assert_eq!(Name::new(text).as_ref(), Ok(name));
    }
    let joined = names.iter().map(Name::as_str).collect::<Vec<_>>().join("/");
    assert_eq!(path.trim_matches('/'), joined);
    assert_eq!(split_path(&joined), Ok(names));
}

/// A value is refused, or means the same when it is written again.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(count) = text.parse::<ByteCount>() {
        assert_eq!(count.to_string().parse(), Ok(count));
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(
            parse_duration(&format!("{}us", duration.as_micros())),
            Ok(duration)
        );
    }
    if let Ok(policy) = text.parse::<AckPolicy>() {
        assert_eq!(policy.to_string(), text);
    }
}
