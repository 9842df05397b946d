//! `remand doctor`: what this host lacks, found out by doing, without the daemon.

use remand_host::{Host, probe_all};

use crate::failure::Failure;
use crate::output;
use crate::verbs::Format;

pub(crate) fn doctor(format: Format, json: bool) -> Result<u8, Failure> {
    let report = probe_all(&Host::default());
    let is_table = format == Format::Table && !json;
    output::put(&if is_table { report.to_table() } else { report.to_json() })?;
    Ok(report.exit_code())
}
