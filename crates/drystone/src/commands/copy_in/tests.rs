use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

fn targets(sources: &[&str], target: &str, into: bool) -> Result<Vec<String>, String> {
    let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
    plan_targets(&sources, target, into).map_err(|error| error.to_string())
}

#[test]
fn no_source_takes_the_place_of_another() {
    assert_eq!(targets(&["a/x", "b/y/"], "/t", true).unwrap(), ["/t/x", "/t/y"]);
    assert_eq!(targets(&["x"], "/t", false).unwrap(), ["/t"]);
    let refused = targets(&["s1/x", "s2/x"], "/same/", true).unwrap_err();
    assert!(
        refused.contains("s1/x and s2/x would both become /same/x"),
        "{refused}"
    );
    assert!(targets(&["a", "b", "a"], "/t/", true).is_err());
    assert!(
        targets(&["-"], "/t/", true)
            .unwrap_err()
            .contains("name the target in full")
    );
    assert!(targets(&["/"], "/t/", true).is_err());
}

#[test]
fn a_link_goes_in_under_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("elsewhere", &link).unwrap();
    assert_eq!(local_name(link.to_str().unwrap()).unwrap(), "link");
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let dotted = format!("{}/.", inner.display());
    assert_eq!(local_name(&dotted).unwrap(), "inner");
}

#[test]
fn holes_are_read_as_zeros_and_data_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let length = 9 * (1 << 20) + 777;
    let mut expected = vec![0; length];
    let file = File::create(&path).unwrap();
    file.set_len(length as u64).unwrap();
    for (offset, size) in [(1 << 20, 10), ((3 << 20) - 4096, 8192), (5_000_000, 100_000)] {
        let data = vec![7; size];
        file.write_all_at(&data, offset as u64).unwrap();
        expected[offset..offset + size].copy_from_slice(&data);
    }
    for piece in [1000, 4096, 100_003, PIECE] {
        let mut source = SparseFile::open(&path, By::Scan).unwrap();
        let mut found = Vec::new();
        loop {
            let data = source.read_piece(piece).unwrap();
            if data.is_empty() {
                break;
            }
            found.extend_from_slice(&data);
        }
        assert!(found == expected, "pieces of {piece}");
    }
}

#[test]
fn times_before_1970_are_not_kept() {
    assert_eq!(micros(1, 2_000), 1_000_002);
    assert_eq!(micros(-5, 0), 0);
}

#[test]
fn what_a_scan_found_as_a_file_is_read_only_if_it_is_one_still() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), fifo, 0o600.into(), 0).unwrap();
    fs::create_dir(at("directory")).unwrap();
    assert!(SparseFile::open(&at("file"), By::Scan).is_ok());
    assert!(SparseFile::open(&at("link"), By::Caller).is_ok());
    // A pipe without a writer would be waited for.
    for name in ["link", "pipe", "directory"] {
        let error = SparseFile::open(&at(name), By::Scan).err().unwrap();
        assert!(
            error.to_string().contains("no regular file any more"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_scan_lists_no_directory_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    fs::write(at("inner/b"), "").unwrap();
    fs::write(at("inner/a"), "").unwrap();
    std::os::unix::fs::symlink("inner", at("link")).unwrap();
    for (name, by) in [("inner", By::Scan), ("inner", By::Caller), ("link", By::Caller)] {
        let found = source::list(&at(name), by).unwrap();
        assert_eq!(found, [at(name).join("a"), at(name).join("b")]);
    }
    assert!(source::list(&at("link"), By::Scan).is_err());
}
