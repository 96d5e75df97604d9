//! The command line as clap knows it.

use crate::address;
use crate::mode::{self, ModeChange};
use crate::output::{Lines, OutputError};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the help opens with.
const ABOUT: &str = "\
Drystone stores files on many machines: one namespace, every file on several disks, every byte checksummed. \
This one binary runs its servers and is the command line for its files.

  drystone up                            a whole cluster on this machine, to try and to develop
  drystone put --recursive docs /        copy a tree in
  drystone ls -l /docs                   look at it
  drystone get --recursive /docs copy    copy it out
  drystone admin status                  is everything well?

Exit codes: 0 done, 1 other, 2 usage, 3 not found, 4 conflict, 5 denied, 6 unavailable or unknown \
(of several failures the first), 10 to 13 of `admin status --check`.";

/// Arguments of the binary.
#[derive(Parser, Debug)]
#[command(
    name = "drystone",
    version,
    about = "A distributed file system: one namespace over the disks of many machines",
    long_about = ABOUT,
    max_term_width = 100
)]
pub struct Arguments {
    /// REST address of the cluster, for commands that work on files
    #[arg(
        long,
        global = true,
        env = "DRYSTONE_CLUSTER",
        default_value = "http://127.0.0.1:9700",
        value_parser = address::parse_url,
        value_name = "HOST:PORT"
    )]
    pub cluster: String,
    /// User on whose behalf files are read and changed (default: the system's user)
    #[arg(long, global = true, env = "DRYSTONE_USER")]
    pub user: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors and what was asked for
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Task {
    /// Run a whole cluster on this machine, in the foreground
    Up(UpOptions),
    /// Run the roles of one node of a real cluster
    Node(ConfigOption),
    /// Make the data directories of a node, once
    Format(FormatOptions),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Work on files.
    #[command(flatten)]
    Client(Command),
}

/// Options of `up`.
#[derive(Args, Debug, Clone)]
pub struct UpOptions {
    /// Where the cluster keeps everything
    #[arg(long, default_value = "./drystone-data", value_name = "DIR")]
    pub data: PathBuf,
    /// REST address; the other ports follow from it (port 0: all ephemeral); default 127.0.0.1:9700, or as before
    #[arg(long, value_parser = address::parse, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Metadata servers: 1, 3 or 5 (default 3)
    #[arg(long, value_name = "N")]
    pub metadata: Option<u32>,
    /// Chunk servers (default 3; 5 with --processes)
    #[arg(long, value_name = "N")]
    pub chunk_servers: Option<u32>,
    /// Racks over which the chunk servers are spread
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub racks: u32,
    /// Run every node as a process of its own
    #[arg(long)]
    pub processes: bool,
    /// Start nodes anew, under new ids, although their disks seem not to be mounted (a directory that was on a disk of
    /// its own and is not now, or several chunk directories that are empty or missing): what they held is lost
    #[arg(long)]
    pub replace_lost: bool,
    /// Listen on an address that others reach, although nobody is authenticated: whoever reaches it can read, change
    /// and delete everything
    #[arg(long)]
    pub insecure: bool,
    /// Name by which others reach it, beside its address: requests for another host are refused, as they may come from a
    /// page in somebody's browser (repeatable; default as before)
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
}

/// Where a node's configuration is.
#[derive(Args, Debug, Clone)]
pub struct ConfigOption {
    /// The node's TOML file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Options of `format`.
#[derive(Args, Debug, Clone)]
pub struct FormatOptions {
    /// The node's TOML file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The chunk server's directories are lost: format them under this node id, which the cluster has never seen
    #[arg(long, value_name = "NODE")]
    pub as_node: Option<u64>,
}

/// Commands on files and on the cluster.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Copy local files or trees (or stdin: -) into the cluster
    Put(PutOptions),
    /// Copy a file or tree out of the cluster (to stdout: -)
    Get(GetOptions),
    /// Write files to stdout
    Cat {
        /// Files
        #[arg(required = true, value_parser = not_empty())]
        paths: Vec<String>,
    },
    /// List a directory, or show a file
    Ls {
        /// Directory or file
        #[arg(default_value = "/", value_parser = not_empty())]
        path: String,
        /// Attributes too
        #[arg(long, short)]
        long: bool,
        /// The whole tree
        #[arg(long, short)]
        recursive: bool,
    },
    /// Make directories
    Mkdir {
        /// Directories
        #[arg(required = true, value_parser = not_empty())]
        paths: Vec<String>,
        /// Make missing parents; no error if it exists
        #[arg(long, short)]
        parents: bool,
    },
    /// Rename a file or directory
    Mv {
        /// What
        #[arg(value_parser = not_empty())]
        from: String,
        /// New name, or a directory to move it into
        #[arg(value_parser = not_empty())]
        to: String,
        /// Replace what has the name
        #[arg(long, short)]
        force: bool,
    },
    /// Copy a file or tree inside the cluster
    Cp {
        /// What
        #[arg(value_parser = not_empty())]
        from: String,
        /// New name, or a directory to copy it into
        #[arg(value_parser = not_empty())]
        to: String,
        /// A whole tree
        #[arg(long, short)]
        recursive: bool,
        /// Replace what has the name
        #[arg(long, short)]
        force: bool,
    },
    /// Delete files, or trees
    Rm {
        /// What
        #[arg(required = true, value_parser = not_empty())]
        paths: Vec<String>,
        /// Directories with all that is in them
        #[arg(long, short)]
        recursive: bool,
        /// No error if it does not exist
        #[arg(long, short)]
        force: bool,
    },
    /// Change permission bits
    Chmod {
        /// Octal, as 644, or in steps, as u+x,go-w (classes u, g, o, a; bits r, w, x, X, or those of a class: g=u)
        #[arg(value_parser = mode::parse, allow_hyphen_values = true)]
        mode: ModeChange,
        /// Files and directories
        #[arg(required = true, value_parser = not_empty())]
        paths: Vec<String>,
        /// Directories with all that is in them (symbolic links have no bits and are left out)
        #[arg(long, short = 'R')]
        recursive: bool,
    },
    /// Change owner and group (the owner: as the superuser only)
    Chown {
        /// USER, USER:GROUP or :GROUP
        #[arg(value_parser = owners, value_name = "USER[:GROUP]")]
        owners: Owners,
        /// Files, directories and symbolic links
        #[arg(required = true, value_parser = not_empty())]
        paths: Vec<String>,
        /// Directories with all that is in them
        #[arg(long, short = 'R')]
        recursive: bool,
    },
    /// Show attributes, and where the bytes are
    Stat {
        /// File or directory
        #[arg(value_parser = not_empty())]
        path: String,
        /// Show extents and replicas
        #[arg(long, short)]
        extents: bool,
    },
    /// Append stdin or a local file to a file
    Append {
        /// The file
        #[arg(value_parser = not_empty())]
        path: String,
        /// What (-: stdin)
        #[arg(default_value = "-", value_parser = not_empty())]
        source: String,
    },
    /// Sizes of files and trees
    Du {
        /// Directory or file
        #[arg(default_value = "/", value_parser = not_empty())]
        path: String,
    },
    /// Find files by name, kind or size
    Find {
        /// Below which directory; or a file or link, which is printed if it fits itself
        #[arg(default_value = "/", value_parser = not_empty())]
        path: String,
        /// Name pattern: * and ?
        #[arg(long)]
        name: Option<String>,
        /// f: files, d: directories, l: symbolic links
        #[arg(long, value_parser = ["f", "d", "l"])]
        kind: Option<String>,
        /// At least this size, as 4KiB
        #[arg(long)]
        min_size: Option<String>,
    },
    /// Look after the cluster
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Measure, each figure beside the least work that could do it
    Bench {
        /// Arguments of the benchmark (`bench --help` lists them)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Whose a file shall be; at least one of both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners {
    /// The new owner.
    pub owner: Option<String>,
    /// The new group.
    pub group: Option<String>,
}

fn owners(text: &str) -> Result<Owners, String> {
    let (owner, group) = match text.split_once(':') {
        Some((owner, group)) => (owner, Some(group)),
        None => (text, None),
    };
    if group.map_or(owner, |group| group).is_empty() {
        return Err("owners are as USER, USER:GROUP or :GROUP".to_owned());
    }
    Ok(Owners {
        owner: (!owner.is_empty()).then(|| owner.to_owned()),
        group: group.map(str::to_owned),
    })
}

/// Options of `put`.
#[derive(Args, Clone, Debug)]
pub struct PutOptions {
    /// Local files or directories; - is stdin
    #[arg(required = true, value_parser = not_empty())]
    pub sources: Vec<String>,
    /// Path in the cluster; ending in / (or an existing directory): put them in there
    #[arg(value_parser = not_empty())]
    pub target: String,
    /// Whole trees, with their modes and symbolic links
    #[arg(long, short)]
    pub recursive: bool,
    /// Keep times and all mode bits, of what exists too (not owners; times before 1970 become 1970)
    #[arg(long, short)]
    pub preserve: bool,
    /// Make missing directories on the way
    #[arg(long)]
    pub parents: bool,
    /// Fail if the file exists
    #[arg(long)]
    pub no_overwrite: bool,
    /// Files at a time, with --recursive
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub jobs: usize,
}

/// Options of `get`.
#[derive(Args, Clone, Debug)]
pub struct GetOptions {
    /// Path in the cluster
    #[arg(value_parser = not_empty())]
    pub source: String,
    /// Local path; - is stdout
    #[arg(default_value = ".", value_parser = not_empty())]
    pub target: String,
    /// A whole tree, with its modes and symbolic links
    #[arg(long, short)]
    pub recursive: bool,
    /// Keep times and all mode bits, whatever the umask says (not owners)
    #[arg(long, short)]
    pub preserve: bool,
    /// Files at a time, with --recursive
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub jobs: usize,
}

/// Looking after the cluster.
#[derive(Subcommand, Clone, Debug)]
pub enum AdminCommand {
    /// The cluster at a glance
    Status {
        /// Exit with 10 if data is lost, 11 if new data is refused, 12 if redundancy is reduced, 13 if that is not
        /// known yet: the first of them that holds; 0 if all is well
        #[arg(long)]
        check: bool,
    },
    /// List the files with bytes of which no replica can be read
    Lost,
    /// Chunk servers and their disks
    Servers {
        /// End the fence of a chunk server of which two processes were seen: stop the wrong one first
        #[arg(long, value_name = "NODE")]
        release: Option<u64>,
        /// Remove a chunk server that is gone for good; refused if it is alive, or if bytes would be lost with it
        #[arg(long, value_name = "NODE", conflicts_with = "release")]
        remove: Option<u64>,
        /// With --remove: although it is alive, and accepting the loss that was named
        #[arg(long, requires = "remove")]
        force: bool,
    },
    /// Metadata servers: members, replacement, leadership
    #[command(subcommand)]
    Raft(RaftCommand),
    /// Let no new data go to a chunk server (moving data away comes later)
    Drain {
        /// Node id
        node: u64,
        /// Take it back
        #[arg(long)]
        undo: bool,
    },
    /// One chunk's record
    Chunk {
        /// Chunk id
        chunk: u64,
    },
    /// Let the replicas on a node be deleted that nothing refers to and that are so many that their deletion stopped
    ReleaseSweep {
        /// Node id
        node: u64,
    },
    /// Bring what is left of a lone metadata server with a damaged log into a new history (offline)
    Recover {
        /// Data directory of `drystone up`, or of the metadata server
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Say what would be restored and what is lost, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// After a restore: let replicas be deleted again that the restored namespace does not need
    ReleaseDeletion,
    /// Give chunk servers' directories and cluster files the history of a recovered metadata server (offline)
    Adopt {
        /// The history id that `recover` printed
        history: String,
        /// Data directories and cluster files
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

/// Metadata servers.
#[derive(Subcommand, Clone, Debug)]
pub enum RaftCommand {
    /// Members and their progress
    Status,
    /// Make learner NEW a voter in the place of OLD
    Replace {
        /// Voter to remove
        old: u64,
        /// Learner to promote
        new: u64,
    },
    /// Let a learner be a member no more: one that is lost, or was not made a voter
    Remove {
        /// Node id
        node: u64,
    },
    /// Hand leadership to a voter
    Transfer {
        /// Node id
        node: u64,
    },
}

/// An empty path is a mistake (a variable that is not set, mostly), not the root.
fn not_empty() -> clap::builder::NonEmptyStringValueParser {
    clap::builder::NonEmptyStringValueParser::new()
}

/// Prints completions to stdout.
pub fn print_completions(shell: clap_complete::Shell) -> Result<(), OutputError> {
    // The generator panics if it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "drystone", &mut text);
    let mut lines = Lines::new();
    lines.bytes(&text)?;
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_opens_with_what_it_is_for_and_lists_what_is_built() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(
            help.starts_with("Drystone stores files on many machines"),
            "{help}"
        );
        for verb in ["tail", "mount"] {
            assert!(Arguments::command().find_subcommand(verb).is_none(), "{verb}");
        }
        let command = Arguments::command();
        let admin = command.find_subcommand("admin").unwrap();
        for verb in ["scrub", "rebalance", "fsck", "backup", "repair"] {
            assert!(admin.find_subcommand(verb).is_none(), "{verb}");
        }
    }

    #[test]
    fn modes_and_owners_are_taken_as_people_type_them() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["drystone"], words].concat());
        for words in [
            &["chmod", "644", "/a", "/b"][..],
            &["chmod", "-R", "u+x,go-w", "/a"],
            &["chmod", "-w", "/a"],
            &["chmod", "--recursive", "-x", "/a"],
            &["chmod", "a-x", "/a", "-R"],
            &["chown", "ann", "/a"],
            &["chown", "-R", "ann:staff", "/a", "/b"],
            &["chown", ":staff", "/a"],
        ] {
            let parsed = parse(words);
            assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
            let recursive = words.iter().any(|word| ["-R", "--recursive"].contains(word));
            match parsed.unwrap().task {
                Task::Client(Command::Chmod { recursive: is, .. } | Command::Chown { recursive: is, .. }) => {
                    assert_eq!(is, recursive, "{words:?}")
                }
                other => panic!("{other:?}"),
            }
        }
        for words in [
            ["chmod", "888", "/a"],
            ["chmod", "644", ""],
            ["chmod", "u+s", "/a"],
            ["chown", ":", "/a"],
            ["chown", "", "/a"],
            ["chown", "ann:", "/a"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
        assert!(parse(&["chmod", "644"]).is_err());
    }

    #[test]
    fn addresses_are_taken_as_people_type_them() {
        let parse = |words: &[&str]| Arguments::try_parse_from(words);
        let arguments = parse(&["drystone", "--cluster", "localhost:9700", "ls"]).unwrap();
        assert_eq!(arguments.cluster, "http://localhost:9700");
        assert!(parse(&["drystone", "up", "--listen", "localhost:9700"]).is_ok());
        assert!(parse(&["drystone", "--cluster", "ftp://x", "ls"]).is_err());
        for words in [["ls", ""], ["rm", ""], ["mkdir", ""], ["cat", ""], ["get", ""]] {
            assert!(parse(&["drystone", words[0], words[1]]).is_err(), "{words:?}");
        }
    }
}
