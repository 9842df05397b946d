//! What `--dry-run` prints.

use remand_model::run::RunPlan;

use crate::failure::Failure;
use crate::output;
use crate::text::printable;

pub(crate) fn print(plan: &RunPlan, json: bool) -> Result<(), Failure> {
    if json {
        return output::put_json(plan);
    }
    output::put(&text(plan))
}

fn text(plan: &RunPlan) -> String {
    let sizes: Vec<String> = plan.filters.iter().map(|size| format!("{size} instructions")).collect();
    let limits = serde_json::to_value(plan.limits).unwrap_or_default();
    let limits = limits.as_object().into_iter().flatten();
    let limits: Vec<String> = limits.map(|(name, value)| format!("{name} {value}")).collect();
    let mut out = format!("policy sha256:{}\n", printable(&plan.policy_sha256));
    let sections: [(&str, &[String]); 6] = [
        ("mounts", &plan.mounts),
        ("control groups", &plan.cgroup),
        ("landlock", &plan.landlock),
        ("seccomp filters", &sizes),
        ("limits", &limits),
        ("environment", &plan.environment),
    ];
    for (title, lines) in sections {
        out.push_str(&format!("{title}\n"));
        lines.iter().for_each(|line| out.push_str(&format!("  {}\n", printable(line))));
    }
    out
}
