//! The complete examples of the project's first two seeds, run as their user would: what
//! they print is the seeds' "Expected Output", whole, in its order and to the letter.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::process::Command;

/// Examples are built by `cargo test` beside the tests.
fn printed_by(example: &str, arguments: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().join("../examples").join(example);
    assert!(program.exists(), "first: cargo build --example {example}");
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (printed, errors) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{printed}\n{errors}");
    printed
}

/// Seed 000, "Complete Example: State Isolation Demonstration".
#[test]
fn isolation_demo_prints_its_expected_output() {
    let expected = "\
=== Job 1: Chain A→B ===
[routine_a] routine_count=1, job_data=job_1, worker_total_jobs=1
[routine_b] routine_count=1, job_data=job_1, worker_total_jobs=1

=== Job 2: Chain B→C ===
[routine_b] routine_count=2, job_data=job_2, worker_total_jobs=2
[routine_c] routine_count=1, job_data=job_2, worker_total_jobs=2

=== Job 3: Routine C ===
[routine_c] routine_count=2, job_data=job_3, worker_total_jobs=3

=== Final WorkerState ===
  routine_a: {'count': 1}
  routine_b: {'count': 2}
  routine_c: {'count': 2}
  _meta: {'total_jobs': 3}
";
    for _ in 0..5 {
        assert_eq!(printed_by("isolation_demo", &[]), expected);
    }
}

/// The same with one job more: what is printed is what happened.
#[test]
fn isolation_demo_with_one_more_job_prints_what_it_changes() {
    let printed = printed_by("isolation_demo", &["A→B→C"]);
    let (_, behind) = printed.split_once("worker_total_jobs=3\n").unwrap();
    let expected = "
=== Job 4: Chain A→B→C ===
[routine_a] routine_count=2, job_data=job_4, worker_total_jobs=4
[routine_b] routine_count=3, job_data=job_4, worker_total_jobs=4
[routine_c] routine_count=3, job_data=job_4, worker_total_jobs=4

=== Final WorkerState ===
  routine_a: {'count': 2}
  routine_b: {'count': 3}
  routine_c: {'count': 3}
  _meta: {'total_jobs': 4}
";
    assert_eq!(behind, expected);
}

/// Seed 001, "Complete Example: State Management in Action", and the same with jobs more.
#[test]
fn state_in_action_prints_its_expected_output() {
    let expected = "\
[WorkerState] Cache MISS: test
[WorkerState] Cache HIT: test
[WorkerState] Cache MISS: other
";
    let more = "\
[WorkerState] Cache HIT: other
[WorkerState] Cache MISS: new
";
    for _ in 0..5 {
        assert_eq!(printed_by("state_in_action", &[]), expected);
    }
    let printed = printed_by("state_in_action", &["other", "new"]);
    assert_eq!(printed, format!("{expected}{more}"));
}
