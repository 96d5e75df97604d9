//! Commands that work on files and on the cluster, through the client library.

mod admin;
mod change;
mod copy_in;
mod copy_out;
mod local;
mod names;
mod progress;
mod show;
mod tree;
mod waiting;

use crate::args::{AdminCommand, Arguments, Command};
use crate::connect;
use crate::exit::{Failures, UsageError};
use crate::node::terminated;
use drystone_client::{Client, DeleteOptions, Error, ErrorKind, MakeDirectoryOptions, RenameOptions, Waits};
use drystone_env::Env;
use progress::Screen;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a shell says of a process that was told to end by SIGINT.
const INTERRUPTED: u8 = 130;

/// What every command has at hand.
pub struct Context {
    /// For the user that the command line names.
    pub client: Client,
    /// `--json`.
    pub json: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// For progress.
    pub screen: Screen,
}

/// Runs one command.
pub async fn run(arguments: &Arguments, command: Command) -> anyhow::Result<ExitCode> {
    let (env, waits) = (Env::os(), Waits::default());
    let screen = Screen::new(arguments.quiet, arguments.json);
    let _telling = waiting::tell(&env, &waits, &screen);
    match &command {
        Command::Bench { arguments: words } => return bench(env, arguments, words, &waits).await,
        Command::Admin(AdminCommand::Recover { data, dry_run }) => {
            crate::recover::run(data, *dry_run, arguments.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Admin(AdminCommand::Adopt { history, paths }) => {
            crate::recover::adopt(history, paths)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let client = connect::client(&env, arguments, &waits).await?;
    let context = Arc::new(Context {
        client,
        json: arguments.json,
        quiet: arguments.quiet,
        screen,
    });
    // A task of its own: reading a terminal or writing to a pipe blocks it, and signals are heard here.
    let mut task = JoinSet::new();
    let own = Arc::clone(&context);
    task.spawn(async move { dispatch(&own, &command).await });
    let outcome = tokio::select! {
        biased;
        done = task.join_next() => Some(done),
        () = terminated() => None,
    };
    local::remove_partial_files();
    task.abort_all();
    // Also after a failure: otherwise the cluster keeps the session for an hour.
    context.client.close().await;
    match outcome {
        Some(Some(Ok(done))) => done.map(|()| ExitCode::SUCCESS),
        Some(Some(Err(fault))) => Err(fault.into()),
        Some(None) | None => Ok(INTERRUPTED.into()),
    }
}

async fn dispatch(context: &Context, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Put(options) => copy_in::put(context, options).await,
        Command::Append { path, source } => copy_in::append(context, path, source).await,
        Command::Get(options) => copy_out::get(context, options).await,
        Command::Cat { paths } => copy_out::cat(context, paths).await,
        Command::Cp {
            from,
            to,
            recursive,
            force,
        } => copy_in::copy(context, from, to, *recursive, *force).await,
        Command::Ls {
            path,
            long,
            recursive,
        } => show::list(context, path, *long, *recursive).await,
        Command::Stat { path, extents } => show::stat(context, path, *extents).await,
        Command::Du { path } => show::usage(context, path).await,
        Command::Find {
            path,
            name,
            kind,
            min_size,
        } => {
            show::find(
                context,
                path,
                name.as_deref(),
                kind.as_deref(),
                min_size.as_deref(),
            )
            .await
        }
        Command::Mkdir { paths, parents } => make_directories(context, paths, *parents).await,
        Command::Mv { from, to, force } => rename(context, from, to, *force).await,
        Command::Rm {
            paths,
            recursive,
            force,
        } => remove(context, paths, *recursive, *force).await,
        Command::Chmod {
            mode,
            paths,
            recursive,
        } => change::modes(context, mode, paths, *recursive).await,
        Command::Chown {
            owners,
            paths,
            recursive,
        } => change::owners(context, owners, paths, *recursive).await,
        Command::Admin(command) => admin::run(context, command).await,
        Command::Bench { .. } => Ok(()),
    }
}

async fn bench(env: Env, arguments: &Arguments, words: &[String], waits: &Waits) -> anyhow::Result<ExitCode> {
    let mut words: Vec<String> = std::iter::once("drystone bench".to_owned())
        .chain(words.iter().cloned())
        .collect();
    if arguments.json {
        words.push("--json".to_owned());
    }
    if drystone_bench::wants_metadata(&words) {
        let servers = connect::metadata_servers(&env, &arguments.cluster, waits).await?;
        words.extend(["--metadata".to_owned(), servers.join(",")]);
    }
    drystone_bench::run(env, words, &arguments.cluster).await
}

async fn make_directories(context: &Context, paths: &[String], parents: bool) -> anyhow::Result<()> {
    let mut failures = Failures::new(context.json);
    for path in paths {
        let options = MakeDirectoryOptions {
            parents,
            ..MakeDirectoryOptions::default()
        };
        let made = context.client.make_directory(path, options).await;
        failures.check(made.map_err(anyhow::Error::from))?;
    }
    failures.finish()
}

async fn rename(context: &Context, from: &str, to: &str, force: bool) -> anyhow::Result<()> {
    let to = names::place_for(&context.client, from, to).await?;
    let options = RenameOptions {
        overwrite: force,
        ..RenameOptions::default()
    };
    context.client.rename(from, &to, options).await?;
    Ok(())
}

async fn remove(context: &Context, paths: &[String], recursive: bool, force: bool) -> anyhow::Result<()> {
    let mut failures = Failures::new(context.json);
    for path in paths {
        failures.check(remove_one(context, path, recursive, force).await)?;
    }
    failures.finish()
}

async fn remove_one(context: &Context, path: &str, recursive: bool, force: bool) -> anyhow::Result<()> {
    if path.trim_matches('/').is_empty() {
        return Err(UsageError("the root directory cannot be deleted".to_owned()).into());
    }
    let options = DeleteOptions {
        recursive,
        ..DeleteOptions::default()
    };
    match context.client.delete(path, options).await {
        Err(error) if force && is_not_found(&error) => Ok(()),
        other => Ok(other?),
    }
}

/// True if the error says that there is nothing of this name.
fn is_not_found(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
