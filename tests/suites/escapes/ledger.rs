//! The ledger of bug classes, and the check that every one of them has a case.

use crate::{neighbours, paths, records, secrets, volumes};
use remand_tests::suite::{Case, Verdict};
use remand_tests::{cases, repository, tidy};
use std::io::Write;

pub const CASES: &[Case] = cases![every_class_of_the_ledger_has_a_case];

/// A class of bugs: what it is, where it was, how it could apply here, the cases that try it.
struct Class {
    attack: &'static str,
    advisories: &'static str,
    applies: &'static str,
    cases: &'static [&'static str],
}

const LEDGER: &[Class] = &[
    Class {
        attack: "the launcher is overwritten through /proc/self/exe or /proc/1/exe",
        advisories: "CVE-2019-5736",
        applies: "no: the shim runs from a sealed memory file, and pid 1 cannot be looked into",
        cases: &["our_programs_cannot_be_overwritten_from_inside"],
    },
    Class {
        attack: "descriptors and working folders that were left open lead out",
        advisories: "CVE-2024-21626",
        applies: "yes",
        cases: &[
            "no_folder_or_descriptor_leads_out",
            "kernel::nothing_of_a_careless_caller_reaches_the_job",
            "a_callers_descriptors_reach_neither_the_daemon_nor_its_programs",
        ],
    },
    Class {
        attack: "mount targets with links, and races on them",
        advisories: "CVE-2021-30465, 2019-16884, 2019-19921, 2025-31133, 2025-52565, 2025-52881",
        applies: "yes: roots and volumes are the tenant's",
        cases: &[
            "a_hostile_root_redirects_no_mount",
            "a_volume_whose_target_has_a_link_in_it_is_refused",
            "a_root_that_changes_all_the_time_lets_nobody_out",
            "a_procfs_is_a_procfs_even_in_a_hostile_root",
        ],
    },
    Class {
        attack: "inherited capabilities, release_agent",
        advisories: "CVE-2022-29162, 2022-0492",
        applies: "yes on hybrid hosts: version 1 groups are there",
        cases: &["no_control_group_can_be_reached", "kernel::all_five_capability_sets_are_empty_and_stay_so"],
    },
    Class {
        attack: "typing into the caller's terminal",
        advisories: "CVE-2017-5226, 2019-10063",
        applies: "yes with -t, but the terminal is the box's own",
        cases: &["kernel::no_ioctl_types_into_a_terminal_whatever_its_high_bits", "kernel::a_terminal_is_the_boxs_own"],
    },
    Class {
        attack: "holes of the filter: int 0x80, x32, clone3, io_uring, notification races",
        advisories: "CVE-2019-10063, 2022-30594",
        applies: "yes",
        cases: &[
            "kernel::calls_of_foreign_abis_end_the_job",
            "kernel::calls_that_nobody_named_do_not_exist",
            "kernel::no_clone_makes_a_namespace_whatever_its_high_bits",
            "kernel::an_interrupted_call_that_replaces_the_kernel_ends_the_job_all_the_same",
        ],
    },
    Class {
        attack: "set-uid helpers that obey the caller",
        advisories: "CVE-2020-17367, 2020-17368, 2021-26910, 2022-31214",
        applies: "no program of ours is set-uid; jobs could plant one",
        cases: &["none_of_our_programs_is_set_id", "kernel::a_job_makes_no_set_id_file_on_the_host"],
    },
    Class {
        attack: "collectors that follow links as root",
        advisories: "CVE-2024-28185, 2024-28189, 2024-29021",
        applies: "yes: the shim collects, the command writes",
        cases: &[
            "kernel::links_are_neither_followed_nor_made",
            "kernel::an_out_folder_with_links_in_it_is_not_written_through",
            "kernel::names_cannot_leave_the_out_folder",
            "a_race_on_the_out_folder_leads_nowhere",
        ],
    },
    Class {
        attack: "writable volumes: links, second names, devices and fifos left for the host or the next job",
        advisories: "CVE-2018-15664, 2019-14271, 2021-30465, 2024-45310",
        applies: "yes: a volume is the host's own folder",
        cases: &[
            "a_writable_volume_gives_nothing_but_itself",
            "a_link_that_a_job_planted_is_not_shown_to_the_next",
            "a_volume_that_is_swapped_for_a_link_all_the_time_shows_nothing_else",
            "kernel::a_job_makes_no_set_id_file_on_the_host",
        ],
    },
    Class {
        attack: "survivors by setsid, double fork, ignored signals, a stopped process",
        advisories: "-",
        applies: "yes",
        cases: &["nothing_survives_the_end_of_a_job", "kernel::wall_time_ends_who_is_deaf_stopped_and_hidden"],
    },
    Class {
        attack: "records forged by newlines, escape sequences and JSON in names and output",
        advisories: "-",
        applies: "yes",
        cases: &[
            "no_name_of_a_job_forges_a_line_or_drives_a_terminal",
            "no_output_of_a_job_forges_a_result",
            "no_argument_of_a_caller_drives_a_terminal",
        ],
    },
    Class {
        attack: "signals to, and looks into, pid 1",
        advisories: "-",
        applies: "yes",
        cases: &["kernel::the_keeper_tells_nothing_and_takes_no_signal"],
    },
    Class {
        attack: "abstract sockets, SysV and POSIX objects across boxes",
        advisories: "CVE-2020-15257",
        applies: "yes",
        cases: &["abstract_sockets_end_at_the_wall", "no_process_of_another_box_or_the_host_can_be_seen_or_signalled"],
    },
    Class {
        attack: "allowances per user that all tenants share (inotify, pipes, keys)",
        advisories: "-",
        applies: "yes: a namespace's owner is charged as well",
        cases: &[
            "one_box_cannot_use_up_the_kernels_allowance_of_another",
            "one_box_cannot_use_up_the_pipes_of_another",
        ],
    },
    Class {
        attack: "what one box left is found by the next",
        advisories: "-",
        applies: "yes: templates of roots are used again",
        cases: &[
            "nothing_of_one_box_is_found_by_the_next",
            "a_folder_that_was_replaced_is_shown_as_it_is_now",
            "a_request_that_fails_leaves_the_spawner_whole",
        ],
    },
    Class {
        attack: "the host's secrets: kernel log, boot id, uptime, memory, paths",
        advisories: "-",
        applies: "yes",
        cases: &[
            "the_host_tells_nothing_through_proc_and_calls",
            "the_mount_table_names_no_host_path_that_was_not_asked_for",
        ],
    },
    Class {
        attack: "the daemon's socket and files as a way in for other users",
        advisories: "CVE-2019-5736 and its like in docker.sock",
        applies: "yes",
        cases: &["another_user_of_the_host_gets_nothing", "the_daemons_socket_is_not_inside"],
    },
];

fn every_class_of_the_ledger_has_a_case() -> Verdict {
    let own: Vec<&str> = [paths::CASES, volumes::CASES, neighbours::CASES, records::CASES, secrets::CASES]
        .concat()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let mut stdout = std::io::stdout();
    for class in LEDGER {
        let line =
            format!("# {} | {} | {} | {}", class.attack, class.advisories, class.applies, class.cases.join(", "));
        writeln!(stdout, "{line}").expect("stdout takes a line");
        assert!(!class.cases.is_empty(), "{}", class.attack);
        for case in class.cases.iter().filter(|case| !case.starts_with("kernel::")) {
            assert!(own.contains(case), "there is no case {case}");
        }
    }
    kernel_cases_exist()
}

/// The other suite's names are read from its source, where there is a checkout.
fn kernel_cases_exist() -> Verdict {
    let Ok(files) = std::panic::catch_unwind(repository::files) else { return Verdict::Proved };
    if !files.iter().any(|file| file.path.ends_with("suites/kernel/main.rs")) {
        return Verdict::Proved;
    }
    let names = tidy::names(&files);
    for case in LEDGER.iter().flat_map(|class| class.cases).filter_map(|case| case.strip_prefix("kernel::")) {
        assert!(names.contains(case), "there is no case kernel::{case}");
    }
    Verdict::Proved
}
