//! fjall behind the namespace's trait.

use super::fjall_store::{FjallStore, StoreError, caught};
use bytes::Bytes;
use drystone_namespace::store::{Insert, Visitor};
use drystone_namespace::{Batch, Order, OrderedStore, StoreError as NamespaceError, View};
use fjall::Readable;
use std::ops::ControlFlow;

fn failed(what: &'static str) -> impl Fn(StoreError) -> NamespaceError {
    move |error| NamespaceError::Io {
        what,
        reason: error.to_string(),
    }
}

fn walk(
    records: impl DoubleEndedIterator<Item = fjall::Guard>,
    order: Order,
    visit: Visitor<'_>,
) -> Result<(), StoreError> {
    let mut step = |guard: fjall::Guard| -> Result<ControlFlow<()>, StoreError> {
        let (key, value) = guard.into_inner()?;
        Ok(visit(&key, &value))
    };
    let records: Box<dyn Iterator<Item = fjall::Guard>> = match order {
        Order::Up => Box::new(records),
        Order::Down => Box::new(records.rev()),
    };
    for guard in records {
        if step(guard)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl View for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, NamespaceError> {
        self.read(key).map_err(failed("reading a record"))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), NamespaceError> {
        if from >= to {
            return Ok(());
        }
        caught(|| walk(self.keyspace().range::<&[u8], _>(from..to), order, visit)).map_err(failed("scanning"))
    }
}

impl OrderedStore for FjallStore {
    fn write(&self, batch: &Batch) -> Result<(), NamespaceError> {
        self.change(
            batch
                .iter()
                .map(|(key, value)| (key, value.map(|value| &value[..]))),
        )
        .map_err(failed("writing a batch"))
    }

    fn load(
        &self,
        fill: &mut dyn FnMut(Insert<'_>) -> Result<(), NamespaceError>,
    ) -> Result<(), NamespaceError> {
        let mut ended = Ok(());
        let loaded = self.ingest(&mut |insert| {
            ended = fill(&mut |key, value| insert(key, value).map_err(failed("loading a record")));
            ended.is_ok()
        });
        ended?;
        loaded.map_err(failed("loading records"))
    }

    fn sync(&self) -> Result<(), NamespaceError> {
        self.checkpoint().map_err(failed("writing tables"))
    }

    fn disk_bytes(&self) -> u64 {
        self.table_bytes()
    }

    fn view(&self) -> Result<Box<dyn View>, NamespaceError> {
        Ok(Box::new(FjallView {
            snapshot: self.database().snapshot(),
            keyspace: self.keyspace().clone(),
        }))
    }
}

struct FjallView {
    snapshot: fjall::Snapshot,
    keyspace: fjall::Keyspace,
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, NamespaceError> {
        caught(|| {
            Ok(self
                .snapshot
                .get(&self.keyspace, key)?
                .map(|value| Bytes::copy_from_slice(&value)))
        })
        .map_err(failed("reading a record of a view"))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), NamespaceError> {
        if from >= to {
            return Ok(());
        }
        caught(|| {
            walk(
                self.snapshot.range::<&[u8], _>(&self.keyspace, from..to),
                order,
                visit,
            )
        })
        .map_err(failed("scanning a view"))
    }
}
