use super::*;
use crate::leader::rig::Rig;
use drystone_proto::command::Op;
use drystone_raft::DropReason;

/// The server that is removed; see [`Rig::enlist_silent`].
const SERVER: u64 = 3;

/// A leader with a server that does not answer.
struct Case {
    rig: Rig,
    removals: Arc<Removals>,
}

/// What becomes of a command that the removal proposes.
enum Fate {
    Applied,
    /// The leader has lost its office before it was logged.
    Dropped,
}

impl Case {
    fn new() -> Self {
        let rig = Rig::new();
        rig.enlist_silent(SERVER);
        let parts = Arc::clone(&rig.parts);
        let removals = Removals {
            clock: Arc::clone(&parts.clock),
            config: Arc::clone(&parts.config),
            state: parts.state.clone(),
            readers: parts.readers.clone(),
            leader: Arc::clone(&parts.leader),
            membership: Arc::clone(&parts.membership),
            one: tokio::sync::Mutex::default(),
        };
        Self {
            rig,
            removals: Arc::new(removals),
        }
    }

    /// Somebody publishes a file whose only replica is on the server.
    fn publish(&self) -> Option<Code> {
        Code::from_number(self.rig.publish_on(SERVER).code)
    }

    fn update(&self, fenced: bool) {
        let update = UpdateNode {
            node: SERVER,
            fenced: Some(fenced),
            ..UpdateNode::default()
        };
        assert_eq!(self.rig.apply(Op::UpdateNode(update)).outcome.code, 0);
    }

    fn server(&self) -> NodeRecord {
        self.rig.parts.state.node(NodeId(SERVER)).unwrap()
    }

    /// Removes the server; `before` is called before each command of the removal, which is then applied or not.
    async fn remove(
        &mut self,
        force: bool,
        mut before: impl FnMut(&mut Self, &Op) -> Fate,
    ) -> Result<RemovedServer, (Code, String)> {
        let removals = Arc::clone(&self.removals);
        let node = SERVER;
        let mut removal = std::pin::pin!(removals.remove(RemoveServer { node, force }));
        loop {
            let (op, reply) = tokio::select! {
                proposal = self.rig.proposal() => proposal,
                removed = &mut removal => return removed.map_err(|refused| match refused {
                    Refused::Error(error) => (Code::from_number(error.code).unwrap(), error.message),
                    Refused::NotLeader => panic!("it would be asked of another leader"),
                }),
            };
            let answer = match before(self, &op) {
                Fate::Applied => Ok(self.rig.apply(op)),
                Fate::Dropped => Err(DropReason::Overtaken),
            };
            let _ = reply.send(answer);
        }
    }

    /// A removal whose leader fails behind the fence.
    async fn remove_halfway(&mut self) {
        let mut fenced = false;
        let fail = |_: &mut Case, _: &Op| match std::mem::replace(&mut fenced, true) {
            false => Fate::Applied,
            true => Fate::Dropped,
        };
        let (code, message) = self.remove(true, fail).await.unwrap_err();
        assert_eq!(code, Code::Unknown);
        assert!(message.contains("admin servers --release 3"), "{message}");
        let server = self.server();
        assert!(server.fenced && server.removing && !server.removed);
    }

    fn works(&self) -> bool {
        let server = self.server();
        !server.fenced && !server.removing && !server.removed
    }
}

#[tokio::test]
async fn a_file_that_is_committed_while_its_server_is_removed_is_named_as_lost() {
    let mut case = Case::new();
    let (mut published, mut waits) = (Vec::new(), Vec::new());
    let commit = |case: &mut Case, _: &Op| {
        published.push(case.publish());
        waits.push(case.server().removing);
        Fate::Applied
    };
    let (code, message) = case.remove(false, commit).await.unwrap_err();
    assert_eq!(code, Code::NotEmpty, "{message}");
    assert!(message.contains("of 1 chunk(s): 5000"), "{message}");
    assert_eq!(
        published,
        [None, Some(Code::NotEnoughDomains)],
        "before the fence it counts, behind it nothing is committed"
    );
    assert_eq!(waits, [false, true], "who comes back meanwhile waits");
    let server = case.server();
    assert!(
        !server.fenced && !server.removing && !server.removed,
        "the refusal lifts the fence"
    );
    assert_eq!(case.publish(), None, "it works again");

    let loss = case.remove(true, |_, _| Fate::Applied).await.unwrap();
    assert_eq!((loss.replicas, loss.lost_chunks, loss.lost_bytes), (2, 2, 10_000));
    assert!(case.server().removed);
    case.rig.lifecycle.stop();
}

#[tokio::test]
async fn a_server_that_was_let_work_again_meanwhile_is_not_removed() {
    let mut case = Case::new();
    let release = |case: &mut Case, op: &Op| {
        if matches!(op, Op::UpdateNode(update) if update.remove) {
            case.update(false);
            assert_eq!(case.publish(), None);
        }
        Fate::Applied
    };
    let (code, message) = case.remove(true, release).await.unwrap_err();
    assert_eq!(code, Code::Conflict, "{message}");
    let server = case.server();
    assert!(
        !server.fenced && !server.removed,
        "the other operator's word counts"
    );
    case.rig.lifecycle.stop();
}

#[tokio::test]
async fn a_fence_that_was_there_before_stays() {
    let mut case = Case::new();
    assert_eq!(case.publish(), None);
    case.update(true);
    let refused = case.remove(false, |_, _| Fate::Applied).await;
    assert_eq!(refused.unwrap_err().0, Code::NotEmpty);
    let server = case.server();
    assert!(server.fenced && !server.removed);
    case.rig.lifecycle.stop();
}

#[tokio::test]
async fn a_removal_whose_leader_fails_says_what_is_left_and_can_be_repeated() {
    let mut case = Case::new();
    assert_eq!(case.publish(), None);
    case.remove_halfway().await;
    assert_eq!(
        case.remove(true, |_, _| Fate::Applied).await.unwrap().lost_chunks,
        1
    );
    case.rig.lifecycle.stop();
}

#[tokio::test]
async fn a_refusal_lifts_the_fence_of_a_removal_whose_leader_has_failed() {
    let mut case = Case::new();
    assert_eq!(case.publish(), None);
    // Before it fences the server itself.
    case.remove_halfway().await;
    let (code, message) = case.remove(false, |_, _| Fate::Applied).await.unwrap_err();
    assert!(
        code == Code::NotEmpty && !message.contains("stays fenced"),
        "{message}"
    );
    assert!(case.works());
    // And behind that.
    case.remove_halfway().await;
    let fail = |_: &mut Case, op: &Op| match op {
        Op::UpdateNode(update) if update.remove => Fate::Dropped,
        _ => Fate::Applied,
    };
    let (code, message) = case.remove(true, fail).await.unwrap_err();
    assert!(
        code == Code::Unknown && !message.contains("stays fenced"),
        "{message}"
    );
    assert!(case.works());
    case.rig.lifecycle.stop();
}

#[tokio::test]
async fn a_server_that_waits_for_its_removal_is_alive() {
    let mut case = Case::new();
    case.remove_halfway().await;
    let now = case.rig.parts.clock.now();
    let waits = |office: &mut crate::leader::office::Office| office.servers.note_waiting(SERVER, now);
    case.rig.parts.leader.with(waits);
    let (code, message) = case.remove(false, |_, _| Fate::Applied).await.unwrap_err();
    assert!(
        code == Code::Conflict && message.contains("is alive"),
        "{message}"
    );
    assert!(case.works());
    case.remove_halfway().await;
    case.remove(true, |_, _| Fate::Applied).await.unwrap();
    case.rig.lifecycle.stop();
}
