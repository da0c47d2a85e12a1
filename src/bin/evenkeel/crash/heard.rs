//! Owns what children say, taken from their lines: which records, which figures, and
//! whether they say anything that they should not.

use evenkeel::{Clock, SystemClock};

use super::child::Event;
use super::protocol;
use super::ranges::Ranges;

/// Takes what a child says.
pub(super) trait Hear {
    fn take(&mut self, event: &Event);
}

/// Figures by name.
pub(super) type Figures = Vec<(String, u64)>;

/// What a writer said before it was killed.
#[derive(Debug)]
pub(super) struct Written {
    start: u64,
    begin_micros: u64,
    pub(super) acks: Ranges,
    /// How long it took to open the store.
    pub(super) opened_micros: Option<u64>,
    /// The last figures.
    pub(super) figures: Figures,
    /// A line that should not be.
    pub(super) wrong: Option<String>,
}

impl Written {
    /// Of a writer that is about to be started.
    pub(super) fn new(start: u64, now_micros: u64) -> Self {
        Self {
            start,
            begin_micros: now_micros,
            acks: Ranges::default(),
            opened_micros: None,
            figures: Figures::new(),
            wrong: None,
        }
    }
}

impl Hear for Written {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Out(line) => {
                // Each number once, and none that it was not told to write.
                let number = protocol::read_acked(line).filter(|number| *number >= self.start);
                if !number.is_some_and(|number| self.acks.insert(number)) {
                    self.wrong.get_or_insert_with(|| line.clone());
                }
            }
            Event::Err(line) if protocol::is_opened(line) => {
                let now = SystemClock.now_micros();
                self.opened_micros = Some(now.saturating_sub(self.begin_micros));
            }
            Event::Err(line) => figures(line, &mut self.figures),
            Event::End | Event::Interrupt => {}
        }
    }
}

/// What a check said.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) have: Ranges,
    pub(super) figures: Figures,
    /// A line that should not be.
    pub(super) wrong: Option<String>,
}

impl Hear for Checked {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Out(line) => match protocol::read_have(line) {
                Some(number) if self.have.last() < Some(number) => {
                    self.have.insert(number);
                }
                _ => {
                    self.wrong.get_or_insert_with(|| line.clone());
                }
            },
            Event::Err(line) => figures(line, &mut self.figures),
            Event::End | Event::Interrupt => {}
        }
    }
}

fn figures(line: &str, to: &mut Figures) {
    if let Some(figures) = protocol::read_figures(line) {
        let owned = |(name, number): (&str, u64)| (name.to_owned(), number);
        *to = figures.into_iter().map(owned).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(line: &str) -> Event {
        Event::Out(line.into())
    }

    #[test]
    fn a_writer_acknowledges_each_number_once_from_its_start_on() {
        for bad in ["acked 9", "acked 11", "acked", "have 12", ""] {
            let mut written = Written::new(10, 0);
            for line in ["acked 11", "acked 10", "acked 15"] {
                written.take(&out(line));
            }
            assert_eq!((written.acks.len(), &written.wrong), (3, &None));
            written.take(&out(bad));
            assert_eq!(written.wrong.as_deref(), Some(bad));
        }
    }

    #[test]
    fn a_check_counts_upward() {
        for bad in ["have 3", "have 5", "acked 6", "have"] {
            let mut checked = Checked::default();
            for line in ["have 0", "have 5"] {
                checked.take(&out(line));
            }
            assert_eq!((checked.have.len(), &checked.wrong), (2, &None));
            checked.take(&out(bad));
            assert_eq!(checked.wrong.as_deref(), Some(bad));
        }
    }
}
