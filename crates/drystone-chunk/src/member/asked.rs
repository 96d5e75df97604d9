//! Leaders that have taken office and ask this server to report.

use drystone_proto::cluster::AskReport;
use tokio::sync::watch;

/// The one of the highest term; asked by the service, read by membership.
#[derive(Default)]
pub(crate) struct AskedReports {
    latest: watch::Sender<AskReport>,
}

impl AskedReports {
    /// A leader asks. An older one than the last is passed over: it leads no more.
    pub(crate) fn ask(&self, ask: AskReport) {
        self.latest.send_if_modified(|latest| {
            let is_later = ask.term > latest.term;
            if is_later {
                *latest = ask;
            }
            is_later
        });
    }

    /// Completes when a leader has asked whose term is above `term`, the one that the server is registered with (0: with
    /// none), and above `followed`, the last that was followed.
    pub(crate) async fn later_than(&self, term: u64, followed: u64) -> AskReport {
        let mut latest = self.latest.subscribe();
        if let Ok(ask) = latest.wait_for(|latest| latest.term > term.max(followed)).await {
            return ask.clone();
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn ask(term: u64) -> AskReport {
        let leader = format!("leader-{term}:1");
        AskReport { term, leader }
    }

    #[test]
    fn only_a_later_leader_is_reported_to() {
        let asked = AskedReports::default();
        asked.ask(ask(5));
        asked.ask(ask(4));
        assert_eq!(asked.later_than(4, 0).now_or_never(), Some(ask(5)));
        assert_eq!(asked.later_than(5, 0).now_or_never(), None);
        assert_eq!(
            asked.later_than(4, 5).now_or_never(),
            None,
            "it was followed once"
        );
        assert_eq!(
            asked.later_than(0, 4).now_or_never(),
            Some(ask(5)),
            "whoever it is calling may be dead"
        );
        assert_eq!(asked.later_than(0, 5).now_or_never(), None);
    }
}
