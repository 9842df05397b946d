//! The rows of `remand doctor` and of an execution's enforced set, and how people and programs read them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How much a row's finding takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The need is met.
    Ok,
    /// Executions are possible, with less than everything; the row's effect says what is less.
    Degraded,
    /// No execution can start.
    Unusable,
}

/// One need and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The need's stable name, for example `namespace.user`.
    pub need: String,
    /// What it is, in a few words.
    pub what: String,
    /// Why remand needs it.
    pub why: String,
    /// What the kernel answered.
    pub found: String,
    /// What follows when the need is not met; empty where it is.
    pub effect: String,
    /// The command or setting that meets the need; empty where it is met.
    pub fix: String,
    /// How bad it is.
    pub level: Level,
}

/// All rows of one look at a host.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this document.
    pub protocol_version: String,
    /// The rows, in the order in which a person would meet the needs.
    pub rows: Vec<Row>,
}

impl Report {
    /// A report of these rows.
    pub fn new(rows: Vec<Row>) -> Self {
        Self { protocol_version: remand_model::PROTOCOL_VERSION.to_owned(), rows }
    }

    /// The worst level of all rows.
    #[must_use]
    pub fn level(&self) -> Level {
        self.rows.iter().map(|row| row.level).max().unwrap_or(Level::Ok)
    }

    /// 0: everything is there, 1: degraded, 2: unusable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.level() {
            Level::Ok => 0,
            Level::Degraded => 1,
            Level::Unusable => 2,
        }
    }

    /// The row of a need.
    #[must_use]
    pub fn row(&self, need: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.need == need)
    }

    /// The report as JSON, with a newline at its end.
    ///
    /// # Panics
    /// Never: every field is text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text fields serialize") + "\n"
    }

    /// The report for a person: one line per need, and below those that are not met why, what follows and the fix.
    #[must_use]
    pub fn to_table(&self) -> String {
        let width = self.rows.iter().map(|row| row.need.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            row.render(width, &mut text).expect("a String takes every line");
        }
        text + &self.summary()
    }

    fn summary(&self) -> String {
        let count = |level| self.rows.iter().filter(|row| row.level == level).count();
        let (ok, degraded, unusable) = (count(Level::Ok), count(Level::Degraded), count(Level::Unusable));
        let verdict = match self.level() {
            Level::Ok => "this host can enforce everything",
            Level::Degraded => "this host can run executions, with less than everything",
            Level::Unusable => "this host cannot run executions",
        };
        format!("{verdict}: {ok} ok, {degraded} degraded, {unusable} unusable\n")
    }
}

impl Row {
    /// A row of an execution's enforced set: something that stands, as the kernel reported it.
    #[must_use]
    pub fn stands(need: &str, what: &str, why: &str, found: &str) -> Self {
        let [need, what, why, found] = [need, what, why, found].map(str::to_owned);
        Self { need, what, why, found, effect: String::new(), fix: String::new(), level: Level::Ok }
    }

    /// The row of a limit as read back from its control group.
    #[must_use]
    pub fn of_limit(limit: &remand_cgroup::Enforced) -> Self {
        let what = limit.file.file_name().unwrap_or_default().to_string_lossy();
        Self::stands(&format!("limit.{}", limit.name), &what, "the job as a whole stays inside it", &limit.found)
    }

    fn render(&self, width: usize, out: &mut String) -> std::fmt::Result {
        let mark = match self.level {
            Level::Ok => "ok      ",
            Level::Degraded => "degraded",
            Level::Unusable => "UNUSABLE",
        };
        writeln!(out, "{mark}  {:width$}  {}", self.need, printable(&self.found))?;
        if self.level != Level::Ok {
            for (name, text) in [("what", &self.what), ("why", &self.why), ("effect", &self.effect), ("fix", &self.fix)]
            {
                writeln!(out, "            {name:6}  {}", printable(text))?;
            }
        }
        Ok(())
    }
}

/// What a kernel file or a host name says may not move the reader's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(need: &str, level: Level) -> Row {
        let (effect, fix) = if level == Level::Ok { ("", "") } else { ("no box", "sysctl -w a=1") };
        Row {
            need: need.into(),
            what: "a thing".into(),
            why: "the box stands on it".into(),
            found: "ENOSPC\u{1b}[2J".into(),
            effect: effect.into(),
            fix: fix.into(),
            level,
        }
    }

    #[test]
    fn a_met_need_is_one_line_and_an_unmet_one_says_what_follows_and_the_fix() {
        let report = Report::new(vec![row("kernel", Level::Ok), row("namespace.user", Level::Unusable)]);
        assert_eq!(
            report.to_table(),
            "ok        kernel          ENOSPC\u{fffd}[2J\n\
             UNUSABLE  namespace.user  ENOSPC\u{fffd}[2J\n\
             \x20           what    a thing\n\
             \x20           why     the box stands on it\n\
             \x20           effect  no box\n\
             \x20           fix     sysctl -w a=1\n\
             this host cannot run executions: 1 ok, 0 degraded, 1 unusable\n"
        );
    }

    #[test]
    fn a_limit_that_was_read_back_is_a_row_of_the_same_shape() {
        let (name, file) = ("pids_max", "/sys/fs/cgroup/remand/t-a/c-b/pids.max".into());
        let limit = remand_cgroup::Enforced { name, wanted: "65".into(), found: "65".into(), file };
        let row = Row::of_limit(&limit);
        assert_eq!((row.need.as_str(), row.what.as_str(), row.found.as_str()), ("limit.pids_max", "pids.max", "65"));
        assert_eq!(row.level, Level::Ok);
    }

    #[test]
    fn the_worst_row_decides_the_exit_code() {
        for (levels, code) in [
            (vec![Level::Ok], 0),
            (vec![Level::Degraded, Level::Ok], 1),
            (vec![Level::Unusable, Level::Degraded], 2),
            (vec![], 0),
        ] {
            let rows = levels.into_iter().map(|level| row("x", level)).collect();
            assert_eq!(Report::new(rows).exit_code(), code);
        }
    }

    #[test]
    fn the_json_carries_the_protocol_version_and_reads_back() {
        let report = Report::new(vec![row("kernel", Level::Degraded)]);
        let json = report.to_json();
        assert!(json.contains("\"protocol_version\": \"1.0\"") && json.contains("\"level\": \"degraded\""), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
