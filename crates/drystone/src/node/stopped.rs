//! Why a role has stopped by itself, and what brings it back if its directories were lost.

use drystone_chunk::StopReason;

/// What the cluster says to a server that comes with an id which it may not have any more.
const NEW_ID: &str = "new id";

/// True if it fails again whenever it is started, until somebody has seen to it.
pub fn needs_operator(failure: &str) -> bool {
    failure.contains(NEW_ID)
}

/// Of a chunk server.
pub fn chunk_server(reason: &StopReason) -> String {
    match reason {
        StopReason::Stranger(why) if why.contains(NEW_ID) => format!(
            "{reason}. Its directories were lost, or it was removed. Move them out of the way, take an id that the cluster has \
             never seen (`drystone admin status` says which is the highest that it has), and run `{}` with the node's configuration",
            crate::known::repair("FILE")
        ),
        _ => reason.to_string(),
    }
}

/// Of a metadata server, which failed like this.
pub fn metadata_server(failure: String) -> String {
    match needs_operator(&failure) {
        true => format!(
            "{failure}. Its directory was lost, or it was replaced. Move the directory out of the way, write a metadata-node \
             that the cluster has never seen and join = true into the node's configuration, run `drystone format --config \
             FILE`, start it, and make it a voter in the place of the lost one with `drystone admin raft replace OLD NEW`"
        ),
        false => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_lost_its_directories_is_told_the_commands_that_bring_it_back() {
        let why = "node 2 was formatted anew: it needs a new id".to_owned();
        let chunk = chunk_server(&StopReason::Stranger(why.clone()));
        assert!(
            chunk.contains("drystone format --config FILE --as-node ID"),
            "{chunk}"
        );
        let metadata = metadata_server(why);
        for part in [
            "join = true",
            "drystone format --config FILE",
            "admin raft replace OLD NEW",
        ] {
            assert!(metadata.contains(part), "{metadata}");
        }
        assert_eq!(metadata_server("the disk is full".to_owned()), "the disk is full");
    }
}
