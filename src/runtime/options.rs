//! Owns the settings of slots and events. Imports nothing.

/// What is done with a message that is posted to a slot which is full.
///
/// What activations emit is another matter: an activation whose target is full is not
/// started, unless the target drops its oldest or lies in a cycle with it, and one that
/// runs never waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtCapacity {
    /// Whoever posts gets an error, and nothing is written. The default.
    #[default]
    Refuse,
    /// Whoever posts from outside of the flow waits until there is room.
    Wait,
    /// The oldest message that nobody has taken yet goes, and is counted in its jobs.
    DropOldest,
}

impl AtCapacity {
    pub(crate) const ALL: [Self; 3] = [Self::Refuse, Self::Wait, Self::DropOldest];

    /// As it is written in a document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Wait => "wait",
            Self::DropOldest => "drop_oldest",
        }
    }
}

/// The settings of a slot.
///
/// ```
/// use evenkeel::{AtCapacity, SlotOptions};
/// let options = SlotOptions::new().capacity(10).at_capacity(AtCapacity::DropOldest);
/// assert_eq!(options.capacity, 10);
/// assert_eq!(options.watermark, 0.8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlotOptions {
    /// How many messages may wait in the slot of one worker. Those that an activation has
    /// taken do not count. Default 1,000, at least 1.
    pub capacity: usize,
    /// The part of the capacity from which on the pressure is high, and from which on
    /// messages that were consumed are no longer remembered. Default 0.8, from 0 to 1.
    pub watermark: f64,
    /// What is done with what is posted to a full slot. Default: it is refused.
    pub at_capacity: AtCapacity,
    /// How many times the capacity may wait there where activations emit more than was
    /// foreseen, as in a cycle. Beyond it the activation that emits fails, and is tried
    /// again. Default 10, at least 1.
    pub hard_limit_factor: u32,
}

impl SlotOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capacity: 1_000,
            watermark: 0.8,
            at_capacity: AtCapacity::default(),
            hard_limit_factor: 10,
        }
    }

    /// Sets how many messages may wait.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets the part of the capacity from which on the pressure is high.
    #[must_use]
    pub fn watermark(mut self, watermark: f64) -> Self {
        self.watermark = watermark;
        self
    }

    /// Sets what is done with what is posted to the slot when it is full.
    #[must_use]
    pub fn at_capacity(mut self, at_capacity: AtCapacity) -> Self {
        self.at_capacity = at_capacity;
        self
    }

    /// Sets how many times the capacity may wait there because of what activations emit.
    #[must_use]
    pub fn hard_limit_factor(mut self, factor: u32) -> Self {
        self.hard_limit_factor = factor;
        self
    }

    /// The most messages that may wait, whoever emits them.
    pub(crate) fn hard_limit(&self) -> usize {
        let factor = usize::try_from(self.hard_limit_factor).unwrap_or(usize::MAX);
        self.capacity.saturating_mul(factor)
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.capacity == 0 {
            Some("its capacity is 0; at least one message must fit".into())
        } else if !(0.0..=1.0).contains(&self.watermark) {
            Some(format!(
                "its watermark is {}; it is a part of the capacity, from 0 to 1",
                self.watermark
            ))
        } else if self.hard_limit_factor == 0 {
            Some("its hard limit is 0 times its capacity; at least 1 times".into())
        } else {
            None
        }
    }
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How full a slot is.
///
/// ```
/// use evenkeel::Pressure;
/// assert!(Pressure::High > Pressure::Medium);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Pressure {
    /// Less than 0.6 of the capacity waits.
    Low,
    /// At least 0.6 of it.
    Medium,
    /// At least the watermark.
    High,
    /// All of it, or more.
    Critical,
}

impl Pressure {
    /// The pressure of so many messages that wait.
    pub(crate) fn of(waiting: usize, options: &SlotOptions) -> Self {
        // Compared as parts of a capacity, which no rounding of a product can move.
        let part = waiting as f64 / options.capacity.max(1) as f64;
        if waiting >= options.capacity {
            Self::Critical
        } else if part >= options.watermark {
            Self::High
        } else if part >= 0.6 {
            Self::Medium
        } else {
            Self::Low
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_low_medium_high_and_critical() {
        let options = SlotOptions::new().capacity(10);
        let pressures: Vec<_> = [0, 5, 6, 7, 8, 9, 10, 11]
            .iter()
            .map(|&waiting| Pressure::of(waiting, &options))
            .collect();
        use Pressure::{Critical, High, Low, Medium};
        let expected = [Low, Low, Medium, Medium, High, High, Critical, Critical];
        assert_eq!(pressures, expected);
    }

    #[test]
    fn pressure_begins_exactly_where_it_says() {
        for capacity in 1..=2_000 {
            let options = SlotOptions::new().capacity(capacity);
            let first = |pressure| {
                (0..=capacity).find(|&waiting| Pressure::of(waiting, &options) >= pressure)
            };
            assert_eq!(first(Pressure::Medium), Some((capacity * 6).div_ceil(10)));
            assert_eq!(first(Pressure::High), Some((capacity * 8).div_ceil(10)));
            assert_eq!(first(Pressure::Critical), Some(capacity));
        }
    }

    #[test]
    fn a_watermark_below_medium_is_high() {
        let options = SlotOptions::new().capacity(10).watermark(0.2);
        assert_eq!(Pressure::of(2, &options), Pressure::High);
        assert_eq!(Pressure::of(1, &options), Pressure::Low);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let wrong = [
            SlotOptions::new().capacity(0),
            SlotOptions::new().watermark(1.1),
            SlotOptions::new().watermark(-0.1),
            SlotOptions::new().watermark(f64::NAN),
            SlotOptions::new().hard_limit_factor(0),
        ];
        assert!(wrong.iter().all(|options| options.fault().is_some()));
        assert_eq!(SlotOptions::default().fault(), None);
        assert_eq!(SlotOptions::default().hard_limit(), 10_000);
        let huge = SlotOptions::new().capacity(usize::MAX);
        assert_eq!(huge.hard_limit(), usize::MAX);
    }
}
