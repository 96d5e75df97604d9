//! `drystone bench` as the binary calls it, as far as it needs no cluster.

use drystone_env::Env;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

async fn run(text: &str) -> anyhow::Result<String> {
    let code = drystone_bench::run(Env::os(), words(text), "http://127.0.0.1:1").await?;
    Ok(format!("{code:?}"))
}

fn code(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_measured_without_a_cluster_and_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!(
        "bench limits --size 4MiB --streams 1,2 --clients 1,8 --count 16 --repeat 3 --json --check --directory {}",
        directory.path().display()
    );
    assert_eq!(run(&line).await.unwrap(), code(0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn faults_of_the_command_line_give_the_code_for_usage() {
    for line in [
        "bench write",
        "bench --nonsense",
        "bench limits --size 5B",
        "bench limits --no-limits",
    ] {
        assert_eq!(run(line).await.unwrap(), code(2), "{line}");
    }
    assert_eq!(run("bench --help").await.unwrap(), code(0));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error() {
    let error = run("bench limits --directory /nonexistent/place")
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("/nonexistent/place"), "{error:#}");
}

#[test]
fn who_measures_a_cluster_must_say_where_it_is() {
    assert!(drystone_bench::wants_metadata(&words("bench")));
    assert!(drystone_bench::wants_metadata(&words("bench write --json")));
    assert!(!drystone_bench::wants_metadata(&words("bench limits")));
    assert!(!drystone_bench::wants_metadata(&words(
        "bench write --metadata 127.0.0.1:1"
    )));
    assert!(!drystone_bench::wants_metadata(&words("bench --nonsense")));
}
