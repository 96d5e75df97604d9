use crate::namespace::{Context, Namespace};
use crate::refusal::{ReadError, refuse};
use crate::store::OrderedStore;
use drystone_proto::command::*;
use drystone_proto::record::InodeRecord;
use drystone_types::{Code, Name};
macro_rules! pending { ($($name:ident: $t:ty),*) => { impl<S: OrderedStore> Namespace<S> {
 $(pub(crate) fn $name(&mut self, _: &Context, _: &$t) -> Result<Outcome, ReadError> { refuse(Code::NotSupported, "pending") })*
 pub(crate) fn make_child(&mut self, _: &Context, _p: InodeRecord, _n: &Name, _m: u32) -> Result<InodeRecord, ReadError> { refuse(Code::NotSupported, "pending") }
} } }
pending!(publish: Publish, make_directory: MakeDirectory, rename: Rename, delete: Delete, set_attributes: SetAttributes, stage: Stage, stage_extend: StageExtend, stage_abandon: StageAbandon, initialize: Initialize, housekeep: Housekeep, forget_replicas: ForgetReplicas);
