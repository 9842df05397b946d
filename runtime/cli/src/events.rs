//! Lists of events, page by page: as many as were asked for, and a word where there are more.

use remand_client::Client;
use remand_model::envelope::Command;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::failure::{Failure, say};
use crate::verbs::Format;
use crate::{connect, output};

/// Events of one page; the daemon gives no more at once.
const PAGE: u64 = 1000;

/// The newest events, oldest of them first; all where `limit` is 0.
pub(crate) fn log(global: &Global, limit: u64) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    let root = client.ask(Command::Audit, &json!({"tenant_id": global.tenant, "what": "root"}))?;
    let size = root["tree_size"].as_u64().unwrap_or(0);
    let from = if limit == 0 { 0 } else { size.saturating_sub(limit) };
    list(global, &mut client, json!({"what": "log"}), from, limit)?;
    if from > 0 {
        say(&format!("{from} earlier events are not shown; ask for more with --limit N, or for all with --limit 0"));
    }
    Ok(0)
}

/// The first events that a query finds; all where `limit` is 0.
pub(crate) fn query(global: &Global, query: Value, limit: u64) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    if list(global, &mut client, query, 0, limit)? {
        say("there are more; ask for them with --limit N, or for all with --limit 0");
    }
    Ok(0)
}

/// Prints the events; with `jsonl` each page as it comes. Whether there are more.
fn list(global: &Global, client: &mut Client, mut query: Value, from: u64, limit: u64) -> Result<bool, Failure> {
    query["tenant_id"] = json!(global.tenant);
    let mut all = Vec::new();
    let is_stream = global.format == Format::Jsonl;
    let has_more = pages(
        from,
        limit,
        |from, count| {
            (query["from_id"], query["limit"]) = (json!(from), json!(count));
            let mut answer = client.ask(Command::Audit, &query)?;
            Ok(answer["events"].as_array_mut().map(std::mem::take).unwrap_or_default())
        },
        |page| {
            if is_stream {
                return output::print(&json!({"events": page}), Format::Jsonl);
            }
            all.extend(page);
            Ok(())
        },
    )?;
    if !is_stream {
        output::print(&json!({"protocol_version": remand_model::PROTOCOL_VERSION, "events": all}), global.format)?;
    }
    Ok(has_more)
}

/// Asks for pages until there are `limit` events or no more, and says whether there are.
fn pages(
    mut from: u64,
    limit: u64,
    mut ask: impl FnMut(u64, u64) -> Result<Vec<Value>, Failure>,
    mut take: impl FnMut(Vec<Value>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let mut left = if limit == 0 { u64::MAX } else { limit };
    while left > 0 {
        let wanted = left.min(PAGE);
        let page = ask(from, wanted)?;
        let Some(last) = page.last().and_then(|event| event["event_id"].as_u64()) else { return Ok(false) };
        let is_short = (page.len() as u64) < wanted;
        (from, left) = (last + 1, left.saturating_sub(page.len() as u64));
        take(page)?;
        if is_short {
            return Ok(false);
        }
    }
    Ok(!ask(from, 1)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is listed of a log of so many events, in how many pages, and whether more was said to be there.
    fn listed(size: u64, from: u64, limit: u64) -> (Vec<u64>, usize, bool) {
        let (mut ids, mut taken) = (Vec::new(), 0);
        let ask = |from: u64, count: u64| {
            assert!((1..=PAGE).contains(&count));
            Ok((from..size.min(from + count)).map(|id| json!({"event_id": id})).collect())
        };
        let has_more = pages(from, limit, ask, |page| {
            taken += 1;
            ids.extend(page.iter().map(|event| event["event_id"].as_u64().expect("an id")));
            Ok(())
        });
        (ids, taken, has_more.expect("no page fails"))
    }

    #[test]
    fn every_page_is_asked_for_until_there_is_enough_and_what_is_cut_is_known() {
        assert_eq!(listed(2500, 0, 0), ((0..2500).collect(), 3, false));
        assert_eq!(listed(2500, 0, 1500), ((0..1500).collect(), 2, true));
        assert_eq!(listed(2500, 1000, 1500), ((1000..2500).collect(), 2, false));
        assert_eq!(listed(2000, 0, 0), ((0..2000).collect(), 2, false));
        assert_eq!(listed(0, 0, 10), (Vec::new(), 0, false));
    }

    #[test]
    fn a_page_that_fails_fails_the_list() {
        assert!(pages(0, 0, |_, _| Err(Failure::asked("no")), |_| Ok(())).is_err());
    }
}
