//! The database changed behind the ledger's back: every change is noticed when it opens or when the chain is verified, the
//! first bad event is named, and nothing panics.

mod store_kit;

use remand_ledger::Transaction;
use remand_ledger::chain::ChainError;
use remand_ledger::store::OpenError;
use remand_ledger::store::sqlite::database_path;
use rusqlite::{Connection, params};
use store_kit::{Backend, event, tenant};

/// Two tenants with 600 events each: two full tiles and 88 events after them.
fn filled() -> Backend {
    let backend = Backend::sqlite();
    let ledger = backend.open();
    for name in ["a", "b"] {
        for n in 0..6 {
            let events = (0..100).map(|m| event(n * 100 + m)).collect();
            assert!(ledger.append(Transaction { tenant: tenant(name), events, ops: Vec::new() }).is_ok());
        }
    }
    ledger.close().unwrap();
    backend
}

/// What the ledger says of a database after `change`: at opening, or else when each chain is verified.
fn fault_after(change: impl FnOnce(&Connection)) -> ChainError {
    let backend = filled();
    change(&Connection::open(database_path(backend.dir())).unwrap());
    let ledger = match backend.try_open() {
        Ok(ledger) => ledger,
        Err(OpenError::Tampered { cause, .. }) => return cause,
        Err(OpenError::Store(error)) => panic!("no event is named: {error}"),
    };
    let faults = ledger.heads().into_iter().filter_map(|head| ledger.verify_chain(&head.tenant).err());
    faults.into_iter().next().expect("the change goes unnoticed")
}

fn row(tenant: i64, event_id: i64) -> i64 {
    tenant << 40 | event_id
}

fn entry(db: &Connection, id: i64) -> Vec<u8> {
    db.query_row("SELECT bytes FROM ev WHERE id=?1", [id], |row| row.get(0)).unwrap()
}

fn set_entry(db: &Connection, id: i64, bytes: &[u8]) {
    assert_eq!(db.execute("UPDATE ev SET bytes=?2 WHERE id=?1", params![id, bytes]).unwrap(), 1);
}

fn run(db: &Connection, sql: &str) {
    assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
}

#[test]
fn an_untouched_database_verifies() {
    let backend = filled();
    let ledger = backend.open();
    assert_eq!(ledger.verify_chain(&tenant("a")).unwrap().size, 600);
    assert_eq!(ledger.verify_chain(&tenant("b")).unwrap().size, 600);
}

#[test]
fn a_flipped_bit_anywhere_in_an_entry_names_the_event() {
    let mut random = store_kit::Random::new(1);
    for _ in 0..20 {
        let (place, at, bit) = (random.below(512) as i64, random.below(200) as usize, random.below(8));
        let fault = fault_after(|db| {
            let mut bytes = entry(db, row(0, place));
            bytes[at] ^= 1 << bit;
            set_entry(db, row(0, place), &bytes);
        });
        assert!(matches!(fault, ChainError::Changed { event_id, .. } if event_id == place as u64), "{fault}");
    }
}

#[test]
fn a_rewritten_last_event_keeps_the_ledger_shut() {
    let fault = fault_after(|db| {
        let text = String::from_utf8(entry(db, row(1, 599))).unwrap().replace("as was seen", "as was SEEN");
        set_entry(db, row(1, 599), text.as_bytes());
    });
    assert!(matches!(fault, ChainError::Head { from: 512, size: 600, .. }), "{fault}");
}

#[test]
fn a_rewritten_event_that_is_no_event_is_named() {
    let fault = fault_after(|db| set_entry(db, row(0, 550), b"{}"));
    assert!(matches!(fault, ChainError::Entry { event_id: 550, .. }), "{fault}");
}

#[test]
fn a_dropped_event_is_named() {
    for place in [0, 300, 599] {
        let fault = fault_after(|db| run(db, &format!("DELETE FROM ev WHERE id={}", row(0, place))));
        assert!(matches!(fault, ChainError::Missing { event_id } if event_id == place as u64), "{fault}");
    }
}

#[test]
fn swapped_events_are_named() {
    for (one, other) in [(10, 20), (520, 521)] {
        let fault = fault_after(|db| {
            let (first, second) = (entry(db, row(0, one)), entry(db, row(0, other)));
            set_entry(db, row(0, one), &second);
            set_entry(db, row(0, other), &first);
        });
        let named = match fault {
            ChainError::Changed { event_id, .. } | ChainError::Misplaced { event_id, .. } => event_id,
            other => panic!("{other}"),
        };
        assert_eq!(named, one as u64);
    }
}

#[test]
fn a_duplicated_event_beyond_the_end_is_named() {
    let fault = fault_after(|db| {
        run(
            db,
            &format!("INSERT INTO ev SELECT {},kind,subject,wall,bytes FROM ev WHERE id={}", row(0, 600), row(0, 599)),
        );
    });
    assert!(matches!(fault, ChainError::Beyond { event_id: 600, size: 600 }), "{fault}");
}

#[test]
fn a_truncated_log_with_a_matching_size_is_noticed() {
    let fault = fault_after(|db| {
        run(db, &format!("DELETE FROM ev WHERE id>={} AND id<{}", row(0, 550), row(1, 0)));
        run(db, "UPDATE tenant SET size=550 WHERE no=0");
    });
    assert!(matches!(fault, ChainError::Head { from: 512, size: 550, .. }), "{fault}");
}

#[test]
fn another_tenants_event_in_place_of_ones_own_is_named() {
    for place in [5, 599] {
        let fault = fault_after(|db| {
            let foreign = entry(db, row(1, place));
            set_entry(db, row(0, place), &foreign);
        });
        let named = match fault {
            ChainError::Changed { event_id, .. } | ChainError::Misplaced { event_id, .. } => event_id,
            other => panic!("{other}"),
        };
        assert_eq!(named, place as u64);
    }
}

#[test]
fn a_renamed_tenant_keeps_the_ledger_shut() {
    let fault = fault_after(|db| run(db, "UPDATE tenant SET name='c' WHERE no=0"));
    assert!(matches!(fault, ChainError::Misplaced { event_id: 0, field: "tenant_id" }), "{fault}");
}

#[test]
fn a_changed_head_keeps_the_ledger_shut() {
    for change in ["root=zeroblob(32)", "size=599", "size=601", "timestamp=timestamp+1", "size=0"] {
        let fault = fault_after(|db| run(db, &format!("UPDATE tenant SET {change} WHERE no=0")));
        assert!(!matches!(fault, ChainError::Store(_)), "{change}: {fault}");
    }
}

#[test]
fn a_changed_tile_is_noticed() {
    for change in ["bytes=zeroblob(8192)", "bytes=zeroblob(64)", "bytes=substr(bytes,1,40)"] {
        for level in [0_i64, 1] {
            let index = level << 36;
            let fault = fault_after(|db| run(db, &format!("UPDATE tile SET {change} WHERE id={index}")));
            assert!(!matches!(fault, ChainError::Store(_)), "{change} at level {level}: {fault}");
        }
    }
    for index in [0_i64, 1, 1 << 36] {
        let fault = fault_after(|db| run(db, &format!("DELETE FROM tile WHERE id={index}")));
        assert!(matches!(fault, ChainError::Tiles { .. }), "{fault}");
    }
}

#[test]
fn an_event_filed_under_another_name_or_time_is_named() {
    for change in ["kind=99", "subject=2", "wall=0"] {
        let fault = fault_after(|db| run(db, &format!("UPDATE ev SET {change} WHERE id={}", row(0, 400))));
        assert!(matches!(fault, ChainError::Misfiled { event_id: 400 }), "{change}: {fault}");
    }
}

#[test]
fn a_cut_or_foreign_database_does_not_open_and_does_not_panic() {
    let mut random = store_kit::Random::new(7);
    for _ in 0..40 {
        let backend = filled();
        let path = database_path(backend.dir());
        let mut bytes = std::fs::read(&path).unwrap();
        let (at, keep) = (random.below(bytes.len() as u64) as usize, random.below(bytes.len() as u64) as usize);
        if random.below(2) == 0 {
            bytes.truncate(keep.max(1));
        } else {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0x5a);
        }
        std::fs::write(&path, &bytes).unwrap();
        // Damage may lie where nothing is kept; whatever opens must verify, or say why not.
        if let Ok(ledger) = backend.try_open() {
            for head in ledger.heads() {
                drop(ledger.verify_chain(&head.tenant));
            }
        }
    }
    let backend = Backend::sqlite();
    std::fs::write(database_path(backend.dir()), b"no database at all, but long enough to look at").unwrap();
    assert!(backend.try_open().is_err());
}

#[test]
fn a_flipped_byte_within_a_segment_keeps_the_ledger_shut() {
    let backend = Backend::segments();
    let ledger = backend.open();
    for n in 0..20 {
        assert!(ledger.append(Transaction::new(tenant("a")).event(event(n))).is_ok());
    }
    drop(ledger);
    let path = backend.dir().join("00000000.seg");
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len() * 9 / 10).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        assert!(backend.try_open().is_err() || is_length(&whole, at), "byte {at}");
    }
}

/// Whether byte `at` is part of a frame's length: then the frame may look torn, which opening cannot tell from a crash.
fn is_length(segment: &[u8], at: usize) -> bool {
    let mut start = 8;
    while start < segment.len() {
        if (start..start + 4).contains(&at) {
            return true;
        }
        start += 8 + u32::from_le_bytes(segment[start..start + 4].try_into().unwrap()) as usize;
    }
    false
}
