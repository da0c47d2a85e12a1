//! What is printed: what each engine is told, how far the run is, the medians with their
//! ratios, and all figures with their spread and latencies.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::print_stderr, reason = "and how far it is")]

use std::io::Write;

use crate::engines::{self, FLOOR, OURS};
use crate::run::{Measured, Repetition};
use crate::runtimes;
use crate::task::{Latency, Outcome, Promise, Result};
use crate::workloads;

/// What the line begins with by which a child answers: some peers print lines of their own.
const ANSWER: &str = "outcome: ";

/// Tells the parent of a child what came out.
pub(crate) fn tell(outcome: &Outcome) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n{ANSWER}{}", serde_json::to_string(outcome)?)?;
    Ok(output.flush()?)
}

/// What a child told, if this line of it is that.
pub(crate) fn told(line: &str) -> Option<Result<Outcome>> {
    let outcome = line.strip_prefix(ANSWER)?;
    Some(serde_json::from_str(outcome).map_err(Into::into))
}

pub(crate) fn progress(repetition: &Repetition) {
    let Repetition {
        workload,
        engine,
        number,
        outcome,
        ..
    } = repetition;
    let said = match (&outcome.failed, outcome.figures.first()) {
        (Some(why), _) => format!("FAILED: {why}"),
        (None, Some(figure)) => format!("{} {}", short(figure.value), figure.unit),
        (None, None) => "nothing measured".to_owned(),
    };
    eprintln!("{workload:12} {} {engine:10} {said}", number + 1);
}

const PROMISES: &[(Promise, &str)] = &[
    (Promise::Sync, "durable"),
    (Promise::Submitted, "submitted, the last awaited"),
    (Promise::Kernel, "handed to the kernel"),
    (Promise::Process, "kept in the process"),
];

/// All that may take part, stores and runtimes, in the order of the tables.
pub(crate) fn engines() -> Vec<&'static str> {
    let runtimes = runtimes::ALL.iter().filter(|name| **name != OURS);
    engines::ALL.iter().chain(runtimes).copied().collect()
}

/// Prints what there is, and what each engine is told.
pub(crate) fn list() {
    for workload in workloads::ALL {
        println!("{:12} {}", workload.name, workload.about);
    }
    println!();
    promises();
}

fn promises() {
    let heads: Vec<_> = PROMISES.iter().map(|(_, head)| *head).collect();
    println!("| Engine | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(heads.len()));
    for engine in engines::ALL.iter().filter(|name| !engines::is_a_map(name)) {
        let told = PROMISES
            .iter()
            .map(|(promise, _)| engines::told(engine, *promise).unwrap_or("–"));
        println!("| {engine} | {} |", told.collect::<Vec<_>>().join(" | "));
    }
    println!("\n| Runtime | told |\n|---|---|");
    for runtime in runtimes::ALL {
        println!("| {runtime} | {} |", runtimes::told(runtime));
    }
    println!();
}

/// One figure of one engine, over its repetitions.
pub(crate) struct Row {
    pub(crate) engine: String,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    latency: Option<Latency>,
}

/// One figure of all engines.
pub(crate) struct Table {
    /// The plot that shows it.
    pub(crate) group: &'static str,
    workload: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) rows: Vec<Row>,
}

/// What lies in the middle; of two, the lower.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = values.len().saturating_sub(1) / 2;
    values.get(at).copied().unwrap_or_default()
}

fn row(engine: &str, values: &mut [f64], latencies: &[Latency]) -> Row {
    let of =
        |part: fn(&Latency) -> f64| middle(&mut latencies.iter().map(part).collect::<Vec<_>>());
    Row {
        engine: engine.to_owned(),
        median: middle(values),
        least: values.first().copied().unwrap_or_default(),
        most: values.last().copied().unwrap_or_default(),
        latency: (!latencies.is_empty()).then(|| Latency {
            p50: of(|latency| latency.p50),
            p99: of(|latency| latency.p99),
            p999: of(|latency| latency.p999),
        }),
    }
}

/// All figures, in the order in which they were first measured.
pub(crate) fn tables<'m>(measured: &'m Measured) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let whole = |r: &&Repetition| r.outcome.failed.is_none();
    let whole: Vec<_> = measured.repetitions.iter().filter(whole).collect();
    let figures = |r: &&'m Repetition| {
        let workload = &r.workload;
        r.outcome
            .figures
            .iter()
            .map(move |figure| (workload, figure))
    };
    for (workload, figure) in whole.iter().flat_map(figures) {
        let is_there = |t: &Table| t.workload == *workload && t.name == figure.name;
        if tables.iter().any(is_there) {
            continue;
        }
        let rows = engines().into_iter().filter_map(|engine| {
            let theirs: Vec<_> = whole
                .iter()
                .filter(|r| r.engine == engine && r.workload == *workload)
                .flat_map(|r| &r.outcome.figures)
                .filter(|theirs| theirs.name == figure.name)
                .collect();
            let mut values: Vec<_> = theirs.iter().map(|figure| figure.value).collect();
            let latencies: Vec<_> = theirs.iter().filter_map(|figure| figure.latency).collect();
            (!values.is_empty()).then(|| row(engine, &mut values, &latencies))
        });
        tables.push(Table {
            group: workloads::group(workload),
            workload: workload.clone(),
            name: figure.name.clone(),
            unit: figure.unit.clone(),
            rows: rows.collect(),
        });
    }
    tables
}

impl Table {
    fn of(&self, engine: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.engine == engine)
    }

    /// Rates are better when they are higher, as is what a sync does; everything else when
    /// it is lower.
    pub(crate) fn more_is_better(&self) -> bool {
        ["/s", "a sync"].contains(&self.unit.as_str())
    }

    fn best(&self, of: fn(&str) -> bool) -> Option<&Row> {
        let rows = self.rows.iter().filter(|row| of(&row.engine));
        let order = |a: &&Row, b: &&Row| a.median.total_cmp(&b.median);
        match self.more_is_better() {
            true => rows.max_by(order),
            false => rows.min_by(order),
        }
    }

    fn best_peer(&self) -> Option<&Row> {
        self.best(engines::is_a_peer)
    }

    /// The machine alone, or the map that does best.
    fn floor(&self) -> Option<&Row> {
        self.of(FLOOR).or_else(|| self.best(engines::is_a_map))
    }

    /// Ours as a multiple of theirs, and whose that is.
    fn ratio(&self, theirs: Option<&Row>) -> String {
        match self.of(OURS).zip(theirs) {
            Some((ours, theirs)) if theirs.median > 0.0 => {
                format!("{:.2} ({})", ours.median / theirs.median, theirs.engine)
            }
            _ => "–".to_owned(),
        }
    }
}

/// A figure with as many digits as mean something.
pub(crate) fn short(value: f64) -> String {
    if value < 100.0 {
        if value.fract() == 0.0 {
            return format!("{value:.0}");
        }
        let digits = if value < 10.0 { 3 } else { 1 };
        return format!("{value:.digits$}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints all of it.
pub(crate) fn print(measured: &Measured, tables: &[Table]) {
    let mut loads: Vec<_> = measured.repetitions.iter().map(|r| r.load).collect();
    let (load, most) = (
        middle(&mut loads),
        loads.last().copied().unwrap_or_default(),
    );
    let scale = measured.scale;
    println!("{}", measured.machine);
    println!("{} keys, {} jobs", scale.keys, scale.jobs);
    println!("Load average of the machine: {load} in the middle, {most} at most");
    println!("\nWhat each engine is told to promise:\n");
    promises();
    println!("Medians, and evenkeel as a multiple of the best peer, and of the floor or a map:");
    medians(tables);
    println!("\nSpread, and what one operation took, in µs:\n");
    spread(tables);
    println!("\nThe most memory of the process, in MiB, with what the benchmark itself holds:\n");
    memory(measured);
    for repetition in &measured.repetitions {
        if let Some(why) = &repetition.outcome.failed {
            let Repetition {
                workload, engine, ..
            } = repetition;
            println!("\nFAILED: {workload} of {engine}: {why}");
        }
    }
}

/// A table for each group, with those that take part in it.
fn medians(tables: &[Table]) {
    let mut groups: Vec<_> = Vec::new();
    for table in tables {
        if !groups.contains(&table.group) {
            groups.push(table.group);
        }
    }
    for group in groups {
        let tables: Vec<_> = tables.iter().filter(|t| t.group == group).collect();
        let there = |engine: &&str| tables.iter().any(|table| table.of(engine).is_some());
        let there: Vec<_> = engines().into_iter().filter(there).collect();
        println!("\n| | {} | × best peer | × floor |", there.join(" | "));
        println!("|---|{}---|---|", "---|".repeat(there.len()));
        for table in tables {
            let cell = |engine: &&str| match table.of(engine) {
                Some(row) => short(row.median),
                None => "–".to_owned(),
            };
            let cells: Vec<_> = there.iter().map(cell).collect();
            let (peer, floor) = (table.ratio(table.best_peer()), table.ratio(table.floor()));
            let Table { name, .. } = table;
            println!("| {name} | {} | {peer} | {floor} |", cells.join(" | "));
        }
    }
}

fn spread(tables: &[Table]) {
    println!("| Workload | engine | median | least | most | p50 | p99 | p99.9 |");
    println!("|---|---|---|---|---|---|---|---|");
    for Table { name, rows, .. } in tables {
        for row in rows {
            let latency = match &row.latency {
                Some(Latency { p50, p99, p999 }) => {
                    format!("{} | {} | {}", short(*p50), short(*p99), short(*p999))
                }
                None => "– | – | –".to_owned(),
            };
            let [median, least, most] = [row.median, row.least, row.most].map(short);
            let Row { engine, .. } = row;
            println!("| {name} | {engine} | {median} | {least} | {most} | {latency} |");
        }
    }
}

/// The most memory that each engine had in each workload.
fn memory(measured: &Measured) {
    let of = |workload: &str, engine: &str| -> Vec<f64> {
        let all = measured.repetitions.iter();
        let theirs = all.filter(|r| r.workload == workload && r.engine == engine);
        let whole = theirs.filter(|r| r.outcome.failed.is_none());
        whole.map(|r| (r.outcome.peak_bytes >> 20) as f64).collect()
    };
    let there = |engine: &&str| measured.repetitions.iter().any(|r| r.engine == **engine);
    let there: Vec<_> = engines().into_iter().filter(there).collect();
    println!("| Workload | {} |", there.join(" | "));
    println!("|---|{}", "---|".repeat(there.len()));
    for workload in workloads::ALL {
        let peaks = there.iter().map(|engine| of(workload.name, engine));
        let cells: Vec<_> = peaks
            .map(|mut peaks| match peaks.is_empty() {
                true => "–".to_owned(),
                false => short(middle(&mut peaks)),
            })
            .collect();
        if cells.iter().any(|cell| cell != "–") {
            println!("| {} | {} |", workload.name, cells.join(" | "));
        }
    }
}
