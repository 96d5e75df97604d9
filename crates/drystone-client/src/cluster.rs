//! Questions about the cluster itself, and its administration.

use crate::admin::{AdminOp, AdminReply, ClusterInfo, ClusterStatus, DamageReport, Empty};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::meta::Repeat;
use drystone_proto::Kind;
use drystone_proto::cluster::AdminRequest;

impl Client {
    /// What a client needs to know of the cluster, asked now (of any metadata server).
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        Ok((*self
            .requester
            .meta()
            .cluster_info(self.requester.deadline())
            .await?)
            .clone())
    }

    /// The cluster at a glance, as the leader sees it.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn status(&self) -> Result<ClusterStatus, Error> {
        let request = AdminRequest {
            op: Some(AdminOp::Status(Empty {})),
        };
        let reply: AdminReply = self
            .requester
            .ask("status", Kind::Admin, Repeat::Read, &request)
            .await?;
        reply
            .status
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "status", "the answer holds no status"))
    }

    /// Administration, passed through to the leader. Operations that change something are sent once: a lost answer
    /// is `unknown`.
    ///
    /// # Errors
    /// Whatever the leader says; `unknown`, `unavailable`.
    pub async fn admin(&self, op: AdminOp) -> Result<AdminReply, Error> {
        let repeat = match op {
            AdminOp::Status(_) | AdminOp::Raft(_) | AdminOp::Chunk(_) | AdminOp::Lost(_) => Repeat::Read,
            AdminOp::RaftReplace(_)
            | AdminOp::UpdateNode(_)
            | AdminOp::TransferLeader(_)
            | AdminOp::ReleaseSweep(_)
            | AdminOp::ReleaseDeletion(_)
            | AdminOp::RemoveLearner(_)
            | AdminOp::RemoveServer(_) => Repeat::Once,
        };
        Ok(self
            .requester
            .ask("admin", Kind::Admin, repeat, &AdminRequest { op: Some(op) })
            .await?)
    }

    /// Tells the leader of a replica that is damaged or missing. Best effort, but waits for the answer.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn report_damage(&self, report: DamageReport) -> Result<(), Error> {
        let _: Empty = self
            .requester
            .ask("report damage", Kind::ReportDamage, Repeat::Read, &report)
            .await?;
        Ok(())
    }
}
