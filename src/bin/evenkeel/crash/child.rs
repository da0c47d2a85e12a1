//! Owns a child process: its lines as they come, its end by SIGKILL, and that none is
//! left behind.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::console::Failure;

/// So many of the last lines of stderr are kept for a message.
const WORDS_MAX: usize = 12;

/// What happens while a child runs.
#[derive(Debug)]
pub(super) enum Event {
    /// A whole line on stdout.
    Out(String),
    /// A whole line on stderr.
    Err(String),
    /// One of the two streams is at its end.
    End,
    /// Somebody wants all of it to end.
    Interrupt,
}

/// Where events come in: from the child that runs, and from whoever interrupts.
#[derive(Debug)]
pub(super) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }

    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The next event; `None` if there is none for so long.
    pub(super) fn wait(&self, longest: Duration) -> Option<Event> {
        // It is never disconnected: a sender is kept here.
        self.receiver.recv_timeout(longest).ok()
    }
}

/// A child process.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    /// The streams whose end has not come yet.
    streams: u32,
    words: VecDeque<String>,
}

impl Child {
    /// Starts a child whose events come in at `events`. One at a time: events do not
    /// say whose they are.
    pub(super) fn start(command: &mut Command, events: &Events) -> Result<Self, Failure> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the parent, which then ends its child.
            .process_group(0);
        let mut process = command
            .spawn()
            .map_err(|e| Failure::new(format_args!("cannot start {command:?}: {e}")))?;
        let mut streams = 0;
        if let Some(out) = process.stdout.take() {
            read(out, events.sender(), Event::Out);
            streams += 1;
        }
        if let Some(err) = process.stderr.take() {
            read(err, events.sender(), Event::Err);
            streams += 1;
        }
        Ok(Self {
            process,
            streams,
            words: VecDeque::new(),
        })
    }

    /// Notes what an event says about the child itself.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::End => self.streams = self.streams.saturating_sub(1),
            Event::Err(line) => {
                if self.words.len() == WORDS_MAX {
                    self.words.pop_front();
                }
                self.words.push_back(line.clone());
            }
            Event::Out(_) | Event::Interrupt => {}
        }
    }

    /// Whether all that it has to say has been heard.
    pub(super) fn is_silent(&self) -> bool {
        self.streams == 0
    }

    /// Ends it by SIGKILL. Its last lines are still to come.
    pub(super) fn kill(&mut self) {
        // It fails only for one that has ended.
        let _ = self.process.kill();
    }

    /// How it ended, once it has.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let failed = |e| Failure::new(format_args!("cannot wait for a child: {e}"));
        self.process.wait().map_err(failed)
    }

    /// Its last words on stderr, for a message.
    pub(super) fn words(&self) -> String {
        let words = self.words.iter().map(|line| format!("\n    {line}"));
        words.collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// Whether a child ended by the signal that [`Child::kill`] sends.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

/// Sends lines on as they come. What stands behind the last newline is no line.
fn read(from: impl Read + Send + 'static, to: Sender<Event>, event: fn(String) -> Event) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if line.pop() == Some(b'\n') {
                let text = String::from_utf8_lossy(&line).into_owned();
                // Nobody to hear it: the run is over.
                let _ = to.send(event(text));
            }
            line.clear();
        }
        let _ = to.send(Event::End);
    });
}
