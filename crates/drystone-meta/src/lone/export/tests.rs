use super::*;
use drystone_env::sim::SimDisk;
use drystone_namespace::{MemoryStore, Namespace};
use drystone_proto::command::{Command, Entry, Initialize, MakeDirectory, Op, Target};
use drystone_proto::grant::ClusterKey;
use drystone_types::{HistoryId, ShardId};

type Memory = Namespace<MemoryStore>;

fn settings() -> Settings {
    Settings {
        shard: ShardId(0),
        key: ClusterKey([3; 32]),
        history: HistoryId([2; 16]),
    }
}

fn apply(state: &mut Memory, op: Op) {
    let index = LogIndex(state.applied().0 + 1);
    let entry = Entry {
        time: 1_000 + index.0,
        command: Some(Command { op: Some(op) }),
        ..Entry::default()
    };
    let outcome = state.apply(index, &entry).unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.message);
}

fn grow(state: &mut Memory, directories: u64) {
    if !state.initialized() {
        apply(state, Op::Initialize(Initialize::default()));
    }
    for _ in 0..directories {
        let path = format!("/directory {}", state.applied());
        let target = Some(Target { base: 0, path });
        apply(
            state,
            Op::MakeDirectory(MakeDirectory {
                target,
                ..MakeDirectory::default()
            }),
        );
    }
    let store = Arc::clone(state.store());
    let done = state.freeze().unwrap().write_to(&*store).unwrap();
    drop(state.flushed(done));
}

fn state() -> Memory {
    Namespace::open(Arc::new(MemoryStore::default()), settings()).unwrap()
}

fn exported(disk: &SimDisk, state: &Memory) -> Result<Export, ExportError> {
    write(disk, &*state.store().view().unwrap(), &settings(), &|| true)
}

fn verified(disk: &SimDisk, applied: LogIndex) -> Result<Export, ExportError> {
    verify(disk, applied, &settings(), &|| true)
}

#[test]
fn what_is_exported_is_found_and_read_back_as_it_was() {
    let (disk, mut state) = (SimDisk::new(1), state());
    grow(&mut state, 3_000);
    let export = exported(&disk, &state).unwrap();
    assert_eq!((export.applied, export.time), (state.applied(), state.log_time()));
    assert_eq!(list(&disk).unwrap(), [export.applied]);
    assert_eq!(verified(&disk, export.applied).unwrap(), export);
    let store = Arc::new(MemoryStore::default());
    import(&disk, export.applied, Arc::clone(&store), &settings()).unwrap();
    let again = Namespace::open(store, settings()).unwrap();
    assert_eq!(again.state_hash().unwrap(), state.state_hash().unwrap());
    let stranger = Settings {
        history: HistoryId([9; 16]),
        ..settings()
    };
    assert!(verify(&disk, export.applied, &stranger, &|| true).is_err());
}

#[test]
fn damage_anywhere_in_an_export_is_found() {
    let (disk, mut state) = (SimDisk::new(2), state());
    grow(&mut state, 40);
    let export = exported(&disk, &state).unwrap();
    let name = file_name(export.applied);
    let used = BLOCK + export.bytes;
    for at in (0..HEADER as u64).chain(BLOCK..used) {
        disk.flip(&name, at, (at % 8) as u8);
        assert!(verified(&disk, export.applied).is_err(), "byte {at}");
        disk.flip(&name, at, (at % 8) as u8);
    }
    verified(&disk, export.applied).unwrap();
    disk.break_block(&name, BLOCK);
    assert!(verified(&disk, export.applied).is_err());
}

#[test]
fn a_write_that_the_disk_lost_never_becomes_an_export() {
    for nth in 1..4 {
        let (disk, mut state) = (SimDisk::new(nth), state());
        grow(&mut state, 10);
        let first = exported(&disk, &state).unwrap();
        grow(&mut state, 10);
        disk.lose_write(nth);
        assert!(exported(&disk, &state).is_err(), "write {nth}");
        assert_eq!(list(&disk).unwrap(), [first.applied]);
        let second = exported(&disk, &state).unwrap();
        assert_eq!(list(&disk).unwrap(), [second.applied, first.applied]);
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_export_before_or_both() {
    for moment in 1..60 {
        let (disk, mut state) = (SimDisk::new(moment), state());
        grow(&mut state, 20);
        let first = exported(&disk, &state).unwrap();
        grow(&mut state, 20);
        disk.power_off_at(moment);
        let second = exported(&disk, &state);
        let done = second.is_ok();
        disk.crash();
        let found = list(&disk).unwrap();
        assert!(
            found.contains(&first.applied) && found.len() <= 2,
            "moment {moment}"
        );
        for applied in &found {
            verified(&disk, *applied).unwrap();
        }
        assert!(!done || found.len() == 2, "moment {moment}");
        if done {
            return;
        }
        exported(&disk, &state).unwrap();
    }
    panic!("the export never came to its end");
}

#[test]
fn others_are_removed_and_remains_are_no_exports() {
    let (disk, mut state) = (SimDisk::new(4), state());
    let mut all = Vec::new();
    for _ in 0..3 {
        grow(&mut state, 5);
        all.push(exported(&disk, &state).unwrap());
    }
    disk.set_contents("exports/new", b"half of one");
    remove_others(&disk, &all[1..]).unwrap();
    assert_eq!(list(&disk).unwrap(), [all[2].applied, all[1].applied]);
    grow(&mut state, 5);
    exported(&disk, &state).unwrap();
    let stopped = write(&disk, &*state.store().view().unwrap(), &settings(), &|| false);
    assert!(matches!(stopped, Err(ExportError::Stopped)));
}

/// A store that has no room for what is loaded into it.
struct FullStore(MemoryStore);

impl View for FullStore {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(from, to, order, visit)
    }
}

impl OrderedStore for FullStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn load(
        &self,
        fill: &mut dyn FnMut(drystone_namespace::store::Insert<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        fill(&mut |_, _| {
            Err(StoreError::Io {
                what: "loading a record",
                reason: "no space left on the device".to_owned(),
            })
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.0.view()
    }
}

#[test]
fn a_store_that_fails_while_an_export_is_loaded_says_nothing_about_the_export() {
    let (disk, mut state) = (SimDisk::new(5), state());
    grow(&mut state, 5);
    let export = exported(&disk, &state).unwrap();
    let full = Arc::new(FullStore(MemoryStore::default()));
    let loaded = import(&disk, export.applied, full, &settings());
    assert!(matches!(loaded, Err(ExportError::Store(_))), "{loaded:?}");
}
