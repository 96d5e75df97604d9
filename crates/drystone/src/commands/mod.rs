//! Commands that work on files and on the cluster, through the client library.

mod admin;
mod copy_in;
mod copy_out;
mod names;
mod progress;
mod show;
mod tree;

use crate::args::{AdminCommand, Arguments, Command};
use crate::connect;
use crate::exit::UsageError;
use drystone_client::{Client, DeleteOptions, Error, ErrorKind, MakeDirectoryOptions, RenameOptions};
use drystone_env::Env;
use std::process::ExitCode;

/// What every command has at hand.
pub struct Context {
    /// For the user that the command line names.
    pub client: Client,
    /// `--json`.
    pub json: bool,
    /// `--quiet`.
    pub quiet: bool,
}

/// Runs one command.
pub async fn run(arguments: &Arguments, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bench { arguments: words } => return bench(arguments, words).await,
        Command::Mount { .. } | Command::Tail { .. } => anyhow::bail!("not built yet"),
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
    let env = Env::os();
    let client = connect::client(&env, arguments).await?;
    let context = Context {
        client,
        json: arguments.json,
        quiet: arguments.quiet,
    };
    let outcome = dispatch(&context, command).await;
    // Also after a failure: otherwise the cluster keeps the session for an hour.
    context.client.close().await;
    outcome?;
    Ok(ExitCode::SUCCESS)
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
        Command::Admin(command) => admin::run(context, command).await,
        Command::Bench { .. } | Command::Mount { .. } | Command::Tail { .. } => Ok(()),
    }
}

async fn bench(arguments: &Arguments, words: &[String]) -> anyhow::Result<ExitCode> {
    let mut words: Vec<String> = std::iter::once("drystone bench".to_owned())
        .chain(words.iter().cloned())
        .collect();
    if arguments.json {
        words.push("--json".to_owned());
    }
    if drystone_bench::wants_metadata(&words) {
        let servers = connect::metadata_servers(&arguments.cluster).await?;
        words.extend(["--metadata".to_owned(), servers.join(",")]);
    }
    drystone_bench::run(Env::os(), words, &arguments.cluster).await
}

async fn make_directories(context: &Context, paths: &[String], parents: bool) -> anyhow::Result<()> {
    for path in paths {
        let options = MakeDirectoryOptions {
            parents,
            ..MakeDirectoryOptions::default()
        };
        context.client.make_directory(path, options).await?;
    }
    Ok(())
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
    for path in paths {
        if path.trim_matches('/').is_empty() {
            return Err(UsageError("the root directory cannot be deleted".to_owned()).into());
        }
        match context
            .client
            .delete(
                path,
                DeleteOptions {
                    recursive,
                    ..DeleteOptions::default()
                },
            )
            .await
        {
            Err(error) if force && error.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// True if the error says that there is nothing of this name.
fn is_not_found(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
