//! What changed since an earlier run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::describe::grouped;
use crate::failure::{Failure, Outcome, work};

/// An earlier run, as `--json` printed it.
pub(super) struct Earlier {
    path: PathBuf,
    reports: Vec<Value>,
}

/// Times that are compared where both runs have them: their name, and where they stand.
const TIMES: [(&str, &str); 5] = [
    ("warm", "/warm_ms/median"),
    ("cold start", "/cold_ms"),
    ("pair", "/pair_ms/median"),
    ("short prompt", "/short/ms/median"),
    ("labels", "/labels/packed_ms/median"),
];

/// What both runs should have in common: its name, and where it stands.
const ALIKE: [(&str, &str); 2] = [("plan", "/plan_hash"), ("kernel", "/kernel")];

impl Earlier {
    /// Reads the file before anything is measured.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let bytes = std::fs::read(path).map_err(|error| work(path.display(), error))?;
        let foreign = |why: &str| {
            Failure::Work(format!("{}: {why}: give a file that `bench --json` has printed", path.display()))
        };
        let text = String::from_utf8(bytes).map_err(|error| foreign(&format!("no JSON ({error})")))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| foreign(&format!("no JSON ({error})")))?;
        let reports = match value {
            Value::Array(reports) if !reports.is_empty() => reports,
            _ => return Err(foreign("not a list of measurements")),
        };
        let is_one = |report: &Value| report["threads"].is_u64() && report["warm_ms"]["median"].is_number();
        if !reports.iter().all(is_one) {
            return Err(foreign("no number of threads with its times"));
        }
        Ok(Self { path: path.to_owned(), reports })
    }

    /// What changed from the earlier run with as many threads to `now`, a report: a few lines for people.
    pub(super) fn against(&self, now: &Value) -> String {
        let path = self.path.display();
        let Some(before) = self.reports.iter().find(|report| report["threads"] == now["threads"]) else {
            let known: Vec<String> =
                self.reports.iter().map(|report| report["threads"].to_string()).collect();
            return format!(
                "  {path} has no run with {} threads, but with {}\n",
                now["threads"],
                known.join(", ")
            );
        };
        let mut out = format!("  since {path}: ms before, now, and their ratio\n");
        for (name, place) in ALIKE {
            let [before, now] = [before, now].map(|report| report.pointer(place).and_then(Value::as_str));
            match (before, now) {
                (Some(before), Some(now)) if before != now => {
                    let _ = writeln!(out, "    another {name}: {before} before, {now} now");
                }
                (None, _) => {
                    let _ = writeln!(out, "    the earlier run does not tell its {name}");
                }
                _ => {}
            }
        }
        let mut line = |name: &str, before: f64, now: f64| {
            let _ = writeln!(out, "    {before:9.3} {now:9.3}  {:5.2}  {name}", now / before);
        };
        for (name, place) in TIMES {
            let [before, now] = [before, now].map(|report| report.pointer(place).and_then(Value::as_f64));
            if let (Some(before), Some(now)) = (before, now) {
                line(name, before, now);
            }
        }
        let (before, now) = (kinds(before), kinds(now));
        if before.is_empty() || now.is_empty() {
            // `--only-warm` times no steps.
            return out;
        }
        for (kind, ms) in &now {
            if let Some((_, earlier)) = before.iter().find(|(name, _)| name == kind) {
                line(kind, *earlier, *ms);
            }
        }
        let lacks = |some: &[(String, f64)], kind: &str| some.iter().all(|(name, _)| name != kind);
        for (kind, ms) in now.iter().filter(|(kind, _)| lacks(&before, kind)) {
            let _ = writeln!(out, "            - {ms:9.3}         {kind}, only now");
        }
        for (kind, ms) in before.iter().filter(|(kind, _)| lacks(&now, kind)) {
            let _ = writeln!(out, "    {ms:9.3}         -         {kind}, only before");
        }
        out
    }
}

/// The milliseconds of each kind of steps: a step's name without its layer.
fn kinds(report: &Value) -> Vec<(String, f64)> {
    let steps = report["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let named = steps.iter().filter_map(|step| {
        let (place, what) = step["step"].as_str()?.split_once(' ')?;
        let tower = place.split('.').next()?;
        Some((format!("{tower}. {what}"), step["ms"].as_f64()?))
    });
    grouped(named).into_iter().map(|(kind, ms)| (kind, ms.iter().sum())).collect()
}
