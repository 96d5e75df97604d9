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
        let mut source = SparseFile::open(&SourceFile::Named(path.clone())).unwrap();
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

/// A file that was cut to nothing while it was read went in as whatever had been read of it.
#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let old = std::time::UNIX_EPOCH;
    let change = |file: &File, what: &str| match what {
        "cut" => file.set_len(5000).unwrap(),
        "grown" => file.write_all_at(b"more", 1 << 20).unwrap(),
        "rewritten" => file.write_all_at(b"other", 0).unwrap(),
        _ => {}
    };
    for what in ["no", "cut", "grown", "rewritten"] {
        for is_sparse in [false, true] {
            let file = File::create(&path).unwrap();
            match is_sparse {
                true => file.set_len(1 << 20).unwrap(),
                false => file.write_all_at(&vec![7; 1 << 20], 0).unwrap(),
            }
            // Clocks of file systems may be coarse.
            file.set_modified(old).unwrap();
            let mut source = SparseFile::open(&SourceFile::Named(path.clone())).unwrap();
            source.read_piece(8192).unwrap();
            change(&file, what);
            while !source.read_piece(8192).unwrap().is_empty() {}
            let refused = source.check_unchanged().err().map(|error| error.to_string());
            let is_right = match &refused {
                None => what == "no",
                Some(error) => what != "no" && error.contains("changed while it was read"),
            };
            assert!(is_right, "{what}, sparse {is_sparse}: {refused:?}");
        }
    }
    // A pipe has no length and no state.
    let (reader, _writer) = std::io::pipe().unwrap();
    let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let source = SparseFile::open(&SourceFile::Named(name.into())).unwrap();
    source.check_unchanged().unwrap();
}

#[test]
fn times_before_1970_are_not_kept() {
    assert_eq!(micros(1, 2_000), 1_000_002);
    assert_eq!(micros(-5, 0), 0);
}

fn found(directory: &Path, name: &str) -> std::io::Result<SparseFile> {
    let tree = SourceTree::open(directory).unwrap();
    SparseFile::open(&SourceFile::Found(tree, name.into()))
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
    assert!(found(directory.path(), "file").is_ok());
    assert!(SparseFile::open(&SourceFile::Named(at("link"))).is_ok());
    // A pipe without a writer would be waited for.
    for name in ["link", "pipe", "directory"] {
        let error = found(directory.path(), name).err().unwrap();
        assert!(
            error.to_string().contains("no regular file any more"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_tree_may_be_named_by_a_link_and_is_listed_through_none() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    fs::write(at("inner/b"), "").unwrap();
    fs::write(at("inner/a"), "").unwrap();
    std::os::unix::fs::symlink("inner", at("link")).unwrap();
    let outer = SourceTree::open(directory.path()).unwrap();
    for _ in 0..2 {
        let listed = outer.list(Path::new("inner")).unwrap();
        assert_eq!(listed, [Path::new("inner/a"), Path::new("inner/b")]);
    }
    let named = SourceTree::open(&at("link")).unwrap();
    assert_eq!(
        named.list(Path::new("")).unwrap(),
        [Path::new("a"), Path::new("b")]
    );
    assert!(named.metadata().unwrap().is_dir());
    assert!(outer.list(Path::new("link")).is_err());
    let link = outer.entry(Path::new("link")).unwrap();
    assert!(link.metadata().is_symlink());
    assert_eq!(link.link().unwrap(), "inner");
}

/// A directory above a file that was found is swapped for a link before the file is read: what the link leads to was
/// copied.
#[test]
fn a_link_that_takes_the_place_of_a_directory_leads_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("tree/above/inner")).unwrap();
    fs::create_dir_all(at("secret/inner")).unwrap();
    fs::write(at("tree/above/inner/file"), "mine").unwrap();
    fs::write(at("secret/inner/file"), "theirs").unwrap();
    let tree = SourceTree::open(&at("tree")).unwrap();
    let file = tree.list(Path::new("above/inner")).unwrap().remove(0);
    assert!(SparseFile::open(&SourceFile::Found(tree.clone(), file.clone())).is_ok());
    fs::rename(at("tree/above"), at("tree/moved")).unwrap();
    std::os::unix::fs::symlink("../secret", at("tree/above")).unwrap();
    for error in [
        SparseFile::open(&SourceFile::Found(tree.clone(), file.clone())).err(),
        tree.entry(&file).err(),
        tree.list(Path::new("above/inner")).err(),
    ] {
        let error = error.unwrap().to_string();
        assert!(error.contains("no directory any more"), "{error}");
    }
}
