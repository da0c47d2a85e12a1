//! Lines that cannot be imported: which line, which column, why; nothing is imported
//! unless that was asked for.

use std::fs;
use std::io::{self, Read};

use evenkeel::{Error, ImportOutcome, Limits, Scope, Store};

use crate::parts::{file, line, lines, state, state_of};

/// Imports good lines, a bad one, and good ones; and gives what was said.
fn refused(bad: &[u8]) -> (Error, String) {
    let mut text = lines(5).into_bytes();
    text.extend_from_slice(bad);
    text.extend_from_slice(b"\n");
    text.extend_from_slice(lines(3).as_bytes());
    let (_folder, path) = file(&text);
    let store = Store::in_memory();
    let error = store.import("bad").json_lines(&path).unwrap_err();
    assert!(state(&store).is_empty(), "{error}");
    assert_eq!(store.imports().unwrap(), []);
    let by_reader = store.import("bad").json_lines_from(&*text).unwrap_err();
    assert!(matches!(
        by_reader,
        Error::Malformed {
            line: 6,
            imported: 0,
            ..
        }
    ));
    assert!(state(&store).is_empty(), "{error}");

    // Told to leave it out, it is left out.
    let report = store.import("bad").skip_malformed().json_lines(&path);
    let report = report.unwrap();
    assert_eq!((report.imported, report.total.malformed), (8, 1));
    assert_eq!((report.malformed.len(), report.malformed[0].line), (1, 6));
    assert!(error.to_string().contains(&report.malformed[0].reason));
    assert_eq!(state(&store), state_of(5));
    let said = error.to_string();
    assert!(said.contains("source.jsonl, line 6"), "{said}");
    assert!(said.ends_with("nothing was imported"), "{said}");
    (error, said)
}

#[test]
fn a_malformed_line_is_named_and_nothing_is_imported() {
    let bad: &[(&[u8], u64, &str)] = &[
        (b"nonsense", 1, "a line is an object"),
        (b"{\"scope\": \"global\", \"key\": \"a\" \"value\": 1}", 32, "expected `,`"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1} x", 45, "trailing characters"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": ", 40, "EOF"),
        (b"[\"global\", \"a\", 1]", 1, "a line is an object"),
        (b"7", 1, "a line is an object"),
        (b"{\"scope\": \"global\", \"key\": \"a\"}", 0, "missing field `value`"),
        (b"{\"key\": \"a\", \"value\": 1}", 24, "missing field `scope`"),
        (b"{\"scope\": \"global\", \"value\": 1}", 31, "missing field `key`"),
        (b"{\"scope\": \"global\", \"key\": 7, \"value\": 1}", 28, "expected a string"),
        (b"{\"scope\": \"golbal\", \"key\": \"a\", \"value\": 1}", 18, "unknown variant `golbal`"),
        (b"{\"scope\": {\"system\": \"x\"}, \"key\": \"a\", \"value\": 1}", 19, "unknown variant"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"expire_at\": 5}", 55, "unknown field"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"key\": \"b\", \"value\": 1}", 37, "duplicate field"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"bytes\": \"00\"}", 0, "only one of"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"bytes\": \"0\"}", 0, "pairs of hexadecimal"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"bytes\": \"+1\"}", 0, "pairs of hexadecimal"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"encoded\": \"ff\"}", 0, "at ."),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"ttl_seconds\": 0}", 0, "ttl"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"ttl_seconds\": -1}", 0, "ttl_seconds is -1"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"ttl_seconds\": 1e300}", 0, "ttl_seconds"),
        (
            b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"ttl_seconds\": 1, \"expires_at\": 1}",
            0,
            "only one of",
        ),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1, \"expires_at\": -1}", 60, "invalid value"),
        (b"{\"scope\": \"global\", \"key\": \"\xff\", \"value\": 1}", 29, "invalid unicode"),
        (b"\x00", 1, "a line is an object"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": NaN}", 42, "expected value"),
        (b"{\"scope\": \"global\", \"key\": \"a\", \"value\": 1e999}", 46, "out of range"),
    ];
    let mut wrong = Vec::new();
    for (bad, column, reason) in bad {
        let (error, said) = refused(bad);
        let Error::Malformed { column: found, .. } = error else {
            panic!("{said}")
        };
        if found != *column || !said.contains(reason) {
            wrong.push(format!(
                "{}: {reason}, {column}: {said}",
                bad.escape_ascii()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_beyond_a_limit_is_malformed_too() {
    let object = |scope: &str, key: &str, value: &str| {
        format!(r#"{{"scope": {scope}, "key": "{key}", "value": {value}}}"#)
    };
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let long = "x".repeat(1025);
    for (line, reason) in [
        (
            object("\"global\"", &"k".repeat(4097), "1"),
            "key_bytes is limited to 4096",
        ),
        (
            object(&format!("{{\"job\": \"{long}\"}}"), "k", "1"),
            "scope",
        ),
        (object("\"global\"", "k", &deep(127)), "recursion limit"),
        (object("\"global\"", "k", &deep(20_000)), "recursion limit"),
    ] {
        let (_, said) = refused(line.as_bytes());
        assert!(said.contains(reason), "{said}");
    }
    let mut limits = Limits::default();
    (limits.value_bytes, limits.value_depth) = (1000, 3);
    let store = Store::builder().limits(limits).in_memory().unwrap();
    for (value, reason) in [
        (
            format!("\"{}\"", "x".repeat(1001)),
            "value_bytes is limited to 1000",
        ),
        (deep(4), "value_depth is limited to 3"),
    ] {
        let text = line(1) + "\n" + &object("\"global\"", "k", &value);
        let error = store.import("a").json_lines_from(text.as_bytes());
        let said = error.unwrap_err().to_string();
        assert!(said.contains(reason) && said.contains("line 2"), "{said}");
        assert!(state(&store).is_empty());
    }
}

#[test]
fn a_line_that_is_too_long_takes_no_memory_and_ends_nothing() {
    let most = line(1).len().max(line(0).len());
    let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (bytes, reason) in [
        (most + 1, "more than"),
        (300_000, "more than"),
        (most, "an object"),
    ] {
        for end in ["\n", "\r\n"] {
            let text = [line(0), long(bytes), line(1)].join(end);
            let (_folder, path) = file(&text);
            let store = Store::in_memory();
            let import = || store.import("a").line_bytes(most);
            let error = import().json_lines(&path).unwrap_err().to_string();
            assert!(
                error.contains("line 2") && error.contains(reason),
                "{error}"
            );
            let report = import().skip_malformed().json_lines(&path).unwrap();
            assert_eq!((report.imported, report.malformed.len()), (2, 1));
            assert_eq!(report.total.bytes, text.len() as u64);
            assert_eq!(state(&store), state_of(2));
        }
    }
}

#[test]
fn only_the_first_of_many_are_listed() {
    let text: String = (0..500).map(|n| line(n) + "\nbad\n").collect();
    let store = Store::in_memory();
    let report = store.import("a").skip_malformed().batch_bytes(1000);
    let report = report.json_lines_from(text.as_bytes()).unwrap();
    assert_eq!((report.imported, report.total.malformed), (500, 500));
    let listed: Vec<_> = report.malformed.iter().map(|bad| bad.line).collect();
    assert_eq!(listed, (1..=100).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(report.outcome, ImportOutcome::Finished);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory();
    for (path, kind) in [
        (folder.path().to_path_buf(), io::ErrorKind::IsADirectory),
        (folder.path().join("missing"), io::ErrorKind::NotFound),
        (folder.path().join("missing/too"), io::ErrorKind::NotFound),
    ] {
        let error = store.import("a").json_lines(&path).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&path.display().to_string()), "{said}");
        assert!(
            matches!(error, Error::Io { source, .. } if source.kind() == kind),
            "{said}"
        );
    }
    let nowhere = folder.path().join("nowhere");
    let error = store.import("a").temporary_folder(&nowhere);
    let error = error.json_lines_from(&b"\n"[..]).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    assert!(matches!(
        store.import("").json_lines_from(&b"\n"[..]),
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        store.import("x".repeat(5000)).json_lines_from(&b"\n"[..]),
        Err(Error::LimitExceeded {
            limit: "key_bytes",
            ..
        })
    ));
    assert_eq!(store.imports().unwrap(), []);
}

#[test]
fn a_reader_that_fails_or_panics_leaves_nothing() {
    struct Failing(bool, usize);
    impl Read for Failing {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match (self.1, self.0) {
                (1, _) => Err(io::ErrorKind::Interrupted.into()),
                (2, _) => {
                    let line = line(1) + "\n";
                    to[..line.len()].copy_from_slice(line.as_bytes());
                    Ok(line.len())
                }
                (_, true) => panic!("boom"),
                _ => Err(io::Error::other("the line is dead")),
            }
        }
    }
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::in_memory();
    let import = || store.import("a").temporary_folder(temporary.path());
    let failed = import().json_lines_from(Failing(false, 0)).unwrap_err();
    assert!(failed.to_string().contains("the line is dead"), "{failed}");
    let panicked = import().json_lines_from(Failing(true, 0));
    assert!(matches!(panicked, Err(Error::Panicked { message }) if message.contains("boom")));
    assert!(state(&store).is_empty());
    import().json_lines_from(line(1).as_bytes()).unwrap();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_function_that_panics_ends_the_import_and_not_the_store() {
    let (_folder, path) = file("1\n2\n3\n");
    let store = Store::in_memory();
    let mut calls = 0;
    let panicked = store.import("a").json_lines_with(&path, |line| {
        calls += 1;
        assert!(calls < 5, "boom");
        Ok(Some((Scope::Global, line.to_string(), 1)))
    });
    // The fifth call is that of the second line, when it is imported.
    let message = panicked.unwrap_err().to_string();
    assert!(
        message.contains("boom") && message.contains("line 2"),
        "{message}"
    );
    let status = store.import("a").status().unwrap().unwrap();
    assert_eq!((status.imported, status.finished), (1, false));
    assert_eq!(store.global().len().unwrap(), 1);
    let rest = store
        .import("a")
        .json_lines_with(&path, |line| Ok(Some((Scope::Global, line.to_string(), 1))));
    assert_eq!(rest.unwrap().imported, 2);
}
