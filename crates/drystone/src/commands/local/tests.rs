use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn write(place: &Place, content: &[u8]) {
    let mut file = NewFile::create(place, 0o644).unwrap();
    file.write_all(content).unwrap();
    file.publish(None, None).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_not_whole_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::of(&directory.path().join("file")).unwrap();
    let mut file = NewFile::create(&place, 0o644).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(names(directory.path()).len(), 1);
    drop(file);
    assert_eq!(names(directory.path()).len(), 0);
    write(&place, b"whole");
    assert_eq!(names(directory.path()), ["file"]);
    assert_eq!(std::fs::read(&place.path).unwrap(), b"whole");
}

#[test]
fn zeros_become_holes() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::of(&directory.path().join("file")).unwrap();
    let mut content = vec![0; 8 << 20];
    content[5_000_000] = 1;
    let mut file = NewFile::create(&place, 0o644).unwrap();
    // Pieces that do not end at the boundaries of blocks.
    for piece in content.chunks(1_000_001) {
        file.write_all(piece).unwrap();
    }
    file.publish(None, None).unwrap();
    assert!(std::fs::read(&place.path).unwrap() == content);
    let held = std::fs::metadata(&place.path).unwrap().blocks() * 512;
    assert!(held < 1 << 20, "{held} bytes on the disk");
}

#[test]
fn only_whole_blocks_of_zeros_are_left_out() {
    let mut bytes = vec![0; 4 * BLOCK];
    assert_eq!(data_ranges(0, &bytes), []);
    assert_eq!(
        data_ranges(100, &bytes),
        [(0, BLOCK - 100), (4 * BLOCK - 100, 4 * BLOCK)]
    );
    bytes[2 * BLOCK] = 1;
    bytes[2 * BLOCK - 1] = 1;
    assert_eq!(data_ranges(0, &bytes), [(BLOCK, 3 * BLOCK)]);
    assert_eq!(data_ranges(7, &[]), []);
}

#[test]
fn links_and_devices_that_are_named_are_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("file"), b"old").unwrap();
    symlink("file", at("link")).unwrap();
    symlink(at("new"), at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for (link, file) in [("link", "file"), ("dangling", "new")] {
        match Destination::of(&at(link)).unwrap() {
            Destination::Replace(place) => write(&place, b"content"),
            Destination::Into(path) => panic!("{} is no device", path.display()),
        }
        assert_eq!(std::fs::read(at(file)).unwrap(), b"content");
        assert!(at(link).is_symlink());
    }
    assert!(matches!(
        Destination::of(Path::new("/dev/null")),
        Ok(Destination::Into(_))
    ));
    assert!(Destination::of(&at("loop")).is_err());
    assert!(Destination::of(directory.path()).is_err());
    assert!(Destination::of(&at("none").join("file")).is_err());
}

#[test]
fn no_link_leads_out_of_a_tree() {
    let directory = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), directory.path().join("link")).unwrap();
    let mut tree = LocalTree::open(directory.path()).unwrap();
    assert!(tree.place("link/file").is_err());
    assert_eq!(tree.place("link").unwrap().present().unwrap(), Present::Link);
    assert!(tree.place("link").unwrap().make_directory(0o755).is_err());
    assert_eq!(names(outside.path()).len(), 0);
}

#[test]
fn a_tree_can_be_deeper_than_a_path_is_long() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree = LocalTree::open(directory.path()).unwrap();
    let name = "n".repeat(200);
    let mut path = String::new();
    for _ in 0..30 {
        path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}/{name}")
        };
        assert_eq!(tree.place(&path).unwrap().make_directory(0o755).unwrap(), None);
    }
    assert!(path.len() > 4096);
    let file = tree.place(&format!("{path}/file")).unwrap();
    write(&file, b"deep");
    assert_eq!(file.present().unwrap(), Present::File);
    // From the root again.
    let other = tree.place(&name).unwrap();
    assert_eq!(other.present().unwrap(), Present::Directory);
    let again = tree.place(&format!("{path}/file")).unwrap();
    assert_eq!(again.present().unwrap(), Present::File);
}

#[test]
fn modes_and_times_are_those_that_were_given() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree = LocalTree::open(directory.path()).unwrap();
    let closed = tree.place("closed").unwrap();
    let mode = closed.make_directory(0o500).unwrap();
    assert_eq!(mode, Some(0o500));
    let place = tree.place("closed/file").unwrap();
    let file = NewFile::create(&place, 0o400).unwrap();
    file.publish(Some(0o4451), Some((1_000_000, 2_000_000))).unwrap();
    closed
        .finish_directory(mode, Some((3_000_000, 4_000_000)))
        .unwrap();
    let file = std::fs::metadata(directory.path().join("closed/file")).unwrap();
    assert_eq!(
        (file.permissions().mode() & 0o7777, file.mtime(), file.atime()),
        (0o4451, 1, 2)
    );
    let made = std::fs::metadata(directory.path().join("closed")).unwrap();
    assert_eq!(
        (made.permissions().mode() & 0o7777, made.mtime(), made.atime()),
        (0o500, 3, 4)
    );
    std::fs::set_permissions(directory.path().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_link_that_took_the_place_of_a_directory_is_not_followed_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("outside")).unwrap();
    symlink("outside", at("link")).unwrap();
    let mode = || std::fs::metadata(at("outside")).unwrap().permissions().mode();
    let before = mode();
    let link = LocalTree::open(directory.path()).unwrap().place("link").unwrap();
    assert!(
        link.finish_directory(Some(0o500), Some((1_000_000, 2_000_000)))
            .is_err()
    );
    assert_eq!(mode(), before);
    // Nothing is to be done, so nothing is opened.
    link.finish_directory(None, None).unwrap();
}

#[test]
fn a_link_takes_the_place_of_a_file_or_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree = LocalTree::open(directory.path()).unwrap();
    let place = tree.place("link").unwrap();
    write(&place, b"a file");
    for link in ["one", "two"] {
        place.make_link(link, Some((5_000_000, 6_000_000))).unwrap();
        assert_eq!(std::fs::read_link(&place.path).unwrap(), Path::new(link));
    }
    assert_eq!(std::fs::symlink_metadata(&place.path).unwrap().mtime(), 5);
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    assert!(tree.place("sub").unwrap().make_link("x", None).is_err());
    assert_eq!(names(directory.path()), ["link", "sub"]);
}
