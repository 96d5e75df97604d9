//! Namespace operations: each is one command or one look-up.

use crate::attributes::{
    Attributes, DeleteOptions, Entry, Expect, ExtentInfo, FileLayout, Idempotency, MakeDirectoryOptions,
    MakeSymbolicLinkOptions, Page, RenameOptions, ReplicaInfo, SetAttributes,
};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::meta::Repeat;
use crate::options::Consistency;
use crate::target::Target;
use drystone_proto::Kind;
use drystone_proto::command::{self, Op, Outcome};
use drystone_proto::meta::{DiskLocation, ListReply, ListRequest, LookupReply, LookupRequest};
use drystone_proto::record::{ChunkRecord, ChunkState, HOLE};
use drystone_types::Code;
use std::collections::BTreeMap;
use std::fmt;

impl Client {
    /// Attributes of a file or directory.
    ///
    /// # Errors
    /// `not_found`, `not_a_directory`, `denied`, `invalid`, `unavailable`.
    pub async fn stat(&self, target: impl Into<Target>) -> Result<Attributes, Error> {
        let target = target.into();
        let place = target.message("stat")?;
        let reply = self
            .requester
            .look_up("stat", place, Consistency::Linearizable, LookupRequest::default())
            .await;
        attributes(
            "stat",
            &target,
            &reply.map_err(|failed| failed.error.about(&target))?,
        )
    }

    /// Entries of a directory with names above `after` (empty: from the first) in byte order, `limit` (1 to 10,000)
    /// at most.
    ///
    /// # Errors
    /// As [`Client::stat`], and `not_a_directory`.
    pub async fn list(&self, target: impl Into<Target>, after: &str, limit: u32) -> Result<Page, Error> {
        let target = target.into();
        if !(1..=10_000).contains(&limit) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "list",
                format!("limit is {limit}, must be 1 to 10000"),
            ));
        }
        let listed = self.list_unnamed(&target, after, limit).await;
        listed.map_err(|error| error.about(&target))
    }

    /// As [`Client::list`]; its errors do not name the directory.
    pub(crate) async fn list_unnamed(&self, target: &Target, after: &str, limit: u32) -> Result<Page, Error> {
        let request = ListRequest {
            target: Some(target.message("list")?),
            after: after.to_owned(),
            limit,
            min_index: self.requester.seen(),
            user: self.caller().user.clone(),
            groups: self.caller().groups.clone(),
            ..ListRequest::default()
        };
        let reply: Result<ListReply, _> = self
            .requester
            .ask("list", Kind::List, Repeat::Read, &request)
            .await;
        let reply = reply.map_err(|failed| failed.error)?;
        self.requester.saw(reply.index);
        let entries: Vec<Entry> = reply
            .entries
            .into_iter()
            .filter_map(|entry| {
                let attributes = Attributes::of(entry.inode.as_ref()?, None);
                Some(Entry {
                    name: entry.name,
                    attributes,
                })
            })
            .collect();
        let next = entries
            .last()
            .filter(|_| reply.more)
            .map(|last| last.name.clone());
        Ok(Page { entries, next })
    }

    /// Attributes of a file and where every byte of it is, on which replicas.
    ///
    /// # Errors
    /// As [`Client::stat`]; `changed` if it was replaced while its pages were read.
    pub async fn extents(&self, target: impl Into<Target>) -> Result<FileLayout, Error> {
        let target = target.into();
        let mut place = target.message("extents")?;
        let mut request = LookupRequest {
            content: true,
            ..LookupRequest::default()
        };
        let mut layout: Option<FileLayout> = None;
        loop {
            let reply = self
                .requester
                .look_up(
                    "extents",
                    place.clone(),
                    Consistency::Linearizable,
                    request.clone(),
                )
                .await;
            let reply = reply.map_err(|failed| failed.error.about(&target))?;
            let page = layout.get_or_insert(FileLayout {
                attributes: attributes("extents", &target, &reply)?,
                inline: reply.inode.as_ref().is_some_and(|inode| inode.inline.is_some()),
                extents: Vec::new(),
            });
            page.extents.extend(extents(&reply));
            let done = reply.next_offset <= request.offset;
            if done && let Some(layout) = layout {
                return Ok(layout);
            }
            if let Some(layout) = &layout {
                place = Target::inode(layout.attributes.inode).message("extents")?;
                request.pinned = Some(layout.attributes.content_version().tag());
            }
            request.offset = reply.next_offset;
        }
    }

    /// Makes a directory; true if it was not there before. Atomic, durable, exactly once.
    ///
    /// # Errors
    /// `exists` (without `parents`), `not_found`, `not_a_directory`, `denied`, `unknown`, `unavailable`.
    pub async fn make_directory(
        &self,
        target: impl Into<Target>,
        options: MakeDirectoryOptions,
    ) -> Result<bool, Error> {
        let target = target.into();
        let op = Op::MakeDirectory(command::MakeDirectory {
            target: Some(target.message("make directory")?),
            parents: options.parents,
            mode: options.mode,
            attributes: None,
        });
        let outcome = self
            .change("make directory", options.idempotency.as_ref(), op, &target)
            .await?;
        Ok(outcome.created)
    }

    /// Makes a symbolic link to `link`, a text of 1 to 4,095 bytes that the cluster keeps and never follows: an
    /// operation whose path leads through a link is refused (`is_a_link`).
    ///
    /// # Errors
    /// `exists`, `is_a_directory` (to be replaced by a link), `not_found`, `not_a_directory`, `is_a_link`, `denied`,
    /// `invalid`, `precondition_failed`, `unknown`, `unavailable`.
    pub async fn make_symbolic_link(
        &self,
        target: impl Into<Target>,
        link: &str,
        options: MakeSymbolicLinkOptions,
    ) -> Result<(), Error> {
        let target = target.into();
        let operation = "make symbolic link";
        let op = Op::MakeSymbolicLink(command::MakeSymbolicLink {
            target: Some(target.message(operation)?),
            link: link.to_owned(),
            precondition: options.precondition.message(),
            overwrite: options.overwrite,
            parents: options.parents,
            attributes: Some(options.attributes.message()),
        });
        self.change(operation, options.idempotency.as_ref(), op, &target)
            .await?;
        Ok(())
    }

    /// Renames a file or directory; atomic: at every moment it has exactly one of the names.
    ///
    /// # Errors
    /// `not_found`, `exists`, `not_empty`, `invalid` (below itself), `precondition_failed`, `denied`, `unknown`,
    /// `unavailable`.
    pub async fn rename(
        &self,
        from: impl Into<Target>,
        to: impl Into<Target>,
        options: RenameOptions,
    ) -> Result<(), Error> {
        let (from, to) = (from.into(), to.into());
        let op = Op::Rename(command::Rename {
            from: Some(from.message("rename")?),
            to: Some(to.message("rename")?),
            overwrite: options.overwrite,
            precondition: options.precondition.message(),
            parents: options.parents,
        });
        self.change(
            "rename",
            options.idempotency.as_ref(),
            op,
            format!("{from} to {to}"),
        )
        .await?;
        Ok(())
    }

    /// Deletes a file or directory; with `recursive` a whole tree at once.
    ///
    /// # Errors
    /// `not_found`, `not_empty`, `is_a_directory`, `not_a_directory`, `precondition_failed`, `denied`, `unknown`,
    /// `unavailable`.
    pub async fn delete(&self, target: impl Into<Target>, options: DeleteOptions) -> Result<(), Error> {
        let target = target.into();
        let op = Op::Delete(command::Delete {
            target: Some(target.message("delete")?),
            recursive: options.recursive,
            precondition: options.precondition.message(),
            expect: match options.expect {
                Expect::Any => 0,
                Expect::File => 1,
                Expect::Directory => 2,
            },
        });
        self.change("delete", options.idempotency.as_ref(), op, &target)
            .await?;
        Ok(())
    }

    /// Changes attributes in one step.
    ///
    /// # Errors
    /// `not_found`, `denied`, `invalid`, `precondition_failed`, `unknown`, `unavailable`.
    pub async fn set_attributes(
        &self,
        target: impl Into<Target>,
        changes: SetAttributes,
    ) -> Result<(), Error> {
        let target = target.into();
        changes.check()?;
        let op = Op::SetAttributes(command::SetAttributes {
            target: Some(target.message("set attributes")?),
            precondition: changes.precondition.message(),
            changes: Some(changes.message()),
        });
        self.change("set attributes", changes.idempotency.as_ref(), op, &target)
            .await?;
        if changes.policy.is_some() || changes.inherit_policy {
            self.writes.policies.forget_all();
        }
        Ok(())
    }

    /// One command that changes names or attributes; an error says what it was about.
    async fn change(
        &self,
        operation: &'static str,
        key: Option<&Idempotency>,
        op: Op,
        subject: impl fmt::Display,
    ) -> Result<Outcome, Error> {
        let outcome = self
            .requester
            .mutate(operation, key, op, self.requester.deadline())
            .await;
        outcome.map_err(|failed| failed.error.about(subject))
    }
}

fn attributes(operation: &'static str, target: &Target, reply: &LookupReply) -> Result<Attributes, Error> {
    let missing = || {
        Error::of_code(
            Code::Unavailable,
            operation,
            format!("{target}: the answer holds no inode"),
        )
    };
    Ok(Attributes::of(
        reply.inode.as_ref().ok_or_else(missing)?,
        reply.policy.as_ref(),
    ))
}

/// The extents of one page with their replicas, as people see them.
fn extents(reply: &LookupReply) -> Vec<ExtentInfo> {
    let chunks: BTreeMap<u64, &ChunkRecord> = reply.chunks.iter().map(|chunk| (chunk.id, chunk)).collect();
    let disks: BTreeMap<u64, &DiskLocation> = reply.disks.iter().map(|disk| (disk.disk, disk)).collect();
    let info = |extent: &drystone_proto::meta::LocatedExtent| {
        let chunk = chunks.get(&extent.chunk).copied();
        let replicas = chunk.into_iter().flat_map(ChunkRecord::holders);
        ExtentInfo {
            offset: extent.offset,
            length: extent.length,
            chunk: extent.chunk,
            chunk_offset: extent.chunk_offset,
            state: match chunk {
                Some(chunk) => state_name(chunk.state),
                None if extent.chunk == HOLE => "hole",
                None => "unknown",
            },
            chunk_length: chunk.map_or(0, |chunk| chunk.length),
            checksum: chunk.map_or(0, |chunk| chunk.checksum),
            replicas: replicas
                .map(|replica| {
                    let place = disks.get(&replica.disk).copied().cloned().unwrap_or_default();
                    ReplicaInfo {
                        server: place.server,
                        node: place.node,
                        address: place.address,
                        rack: place.rack,
                        disk: replica.disk,
                        incarnation: replica.incarnation,
                        placement: replica.placement,
                        suspect: place.suspect,
                    }
                })
                .collect(),
        }
    };
    reply.extents.iter().map(info).collect()
}

fn state_name(state: i32) -> &'static str {
    match ChunkState::try_from(state) {
        Ok(ChunkState::Sealed) => "sealed",
        Ok(ChunkState::Doomed) => "doomed",
        Ok(ChunkState::Open) => "open",
        Ok(ChunkState::Sealing) => "sealing",
        Ok(ChunkState::Striped) => "striped",
        Err(_) => "unknown",
    }
}
