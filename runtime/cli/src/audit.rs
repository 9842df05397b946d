//! `remand audit`: reads and exports the log over the daemon; verifying an export needs nobody.

use std::path::Path;

use remand_model::envelope::Command;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::export::ExportFolder;
use crate::failure::Failure;
use crate::verbs::AuditVerb;
use crate::{ask, connect, events, output, verify};

pub(crate) fn audit(global: &Global, verb: &AuditVerb) -> Result<u8, Failure> {
    let mut payload = match verb {
        AuditVerb::Log { limit } => return events::log(global, *limit),
        AuditVerb::Show { event } => json!({"event_id": event, "what": "show"}),
        AuditVerb::Query { limit, .. } => return events::query(global, query(verb), *limit),
        AuditVerb::Verify { dir: Some(dir), prev, trust } => {
            return verify::export(global.format, dir, prev, trust);
        }
        AuditVerb::Verify { .. } => json!({"what": "verify"}),
        AuditVerb::Export { dir } => return export(global, dir),
        AuditVerb::Proof { event } => json!({"event_id": event, "what": "proof"}),
        AuditVerb::Checkpoint => json!({"what": "checkpoint"}),
        AuditVerb::Root => json!({"what": "root"}),
        AuditVerb::Fsck => json!({"what": "fsck"}),
    };
    payload["tenant_id"] = json!(global.tenant);
    ask::ask(global, Command::Audit, &payload)
}

fn query(verb: &AuditVerb) -> Value {
    let AuditVerb::Query { event_type, subject, since_us, until_us, .. } = verb else { return Value::Null };
    let all = json!({
        "event_type": event_type, "since_us": since_us, "subject": subject, "until_us": until_us, "what": "query",
    });
    let given = all.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn export(global: &Global, dir: &Path) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    let mut folder = ExportFolder::begin(dir)?;
    let taken = client.export_audit_log(&global.tenant, &mut folder).map_err(Failure::from);
    let answer = folder.finish(taken)?;
    output::print(&answer, global.format).map(|()| 0)
}
