//! Folders that a job may write: what it leaves in them is the owner's, and leads nobody anywhere.

use remand_client::{Captured, ClientError};
use remand_model::run::{RunRequest, Volume};
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use remand_tests::{cases, load};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub const CASES: &[Case] = cases![
    a_writable_volume_gives_nothing_but_itself,
    a_link_that_a_job_planted_is_not_shown_to_the_next,
    a_volume_that_is_swapped_for_a_link_all_the_time_shows_nothing_else,
    a_race_on_the_out_folder_leads_nowhere,
];

fn volume(folder: &Path, target: &str) -> String {
    format!("{}:{target}:rw", folder.display())
}

/// A folder of the host beside the volumes, with something in it that no job may read or change.
fn treasure() -> PathBuf {
    let folder = stage().folder();
    fs::write(folder.join("treasure"), "the host's own").expect("ours");
    folder
}

fn a_writable_volume_gives_nothing_but_itself() -> Verdict {
    let (folder, treasure) = (stage().folder(), treasure());
    let script = format!(
        "cd /data; ln -s {0}/treasure link; ln -s {0} dir; cat link dir/treasure; echo evil >link; echo evil >dir/new; \
         ln /usr/bin/env hard; ln /proc/self/exe exe; mv /data /tmp/moved; mv ../data ../other; \
         mknod null c 1 3; mknod disk b 8 0; mkfifo fifo; mount -t tmpfs none /data; chown 0:0 fifo; \
         mkdir -p a/b; mv a/b ../../../../..; echo name >\"$(printf 'new\\nline\\033[2J')\"; :",
        treasure.display()
    );
    let seen = stage().shell(&["-v", &volume(&folder, "/data")], &script).expect(0);
    assert!(!seen.text().contains("the host's own"), "{}", seen.text());
    assert_eq!(fs::read_to_string(treasure.join("treasure")).expect("ours"), "the host's own");
    assert!(!treasure.join("new").exists(), "a link was written through");
    let owner = fs::metadata(&folder).expect("ours");
    for entry in fs::read_dir(&folder).expect("ours").flatten() {
        let found = fs::symlink_metadata(entry.path()).expect("it was listed");
        let name = entry.file_name();
        let kind = found.file_type();
        assert!(!kind.is_char_device() && !kind.is_block_device(), "{name:?} is a device");
        assert_eq!((found.uid(), found.mode() & 0o6000), (owner.uid(), 0), "{name:?}");
        assert_eq!(found.dev(), owner.dev(), "{name:?} is of another file system");
        assert!(kind.is_dir() || found.nlink() == 1, "{name:?} is a second name of another file");
    }
    Verdict::Proved
}

/// What a script prints that is shown this folder, by the daemon itself: the command resolves links for its caller, and
/// what comes after it must not.
fn shown(source: &Path, script: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let local = "local".parse().expect("a name");
    let mut client = load::attached(&stage().place, &local, None).expect("root is let in");
    let name = format!("shown-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let mut request = RunRequest::new(name.parse().expect("a name"), argv);
    let source = source.to_str().expect("a plain path").to_owned();
    request.volumes.push(Volume { source, target: "/data".into(), writable: true });
    let mut captured = Captured::default();
    match client.run(&request, None, &mut captured) {
        Ok(_) | Err(ClientError::Refused(_)) => String::from_utf8_lossy(&captured.stdout).into_owned(),
        Err(error) => panic!("{error}"),
    }
}

const LOOT: &str = "cat /data /data/treasure; echo evil >/data/new";

fn a_link_that_a_job_planted_is_not_shown_to_the_next() -> Verdict {
    let (folder, treasure) = (stage().folder(), treasure());
    let planted = format!("cd /data; ln -s {0} sub; ln -s {0}/treasure file; echo done", treasure.display());
    assert_eq!(shown(&folder, &planted), "done\n");
    assert!(folder.join("sub/treasure").exists(), "the links are there");
    for name in ["sub", "file", "sub/treasure"] {
        assert_eq!(shown(&folder.join(name), LOOT), "", "{name}");
        assert!(!treasure.join("new").exists(), "{name} was written through");
    }
    Verdict::Proved
}

fn a_volume_that_is_swapped_for_a_link_all_the_time_shows_nothing_else() -> Verdict {
    let (parent, treasure) = (stage().folder(), treasure());
    let (own, aside, link) = (parent.join("own"), parent.join("aside"), parent.join("link"));
    fs::create_dir(&own).expect("ours");
    symlink(&treasure, &link).expect("ours");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |from: &Path, to: &Path| fs::rename(from, to).expect("our own folder");
            while !over.load(Ordering::Relaxed) {
                swap(&own, &aside);
                swap(&link, &own);
                swap(&own, &link);
                swap(&aside, &own);
            }
        });
        let seen: Vec<String> = (0..40).map(|_| shown(&own, LOOT)).collect();
        over.store(true, Ordering::Relaxed);
        assert!(seen.iter().all(String::is_empty), "{seen:?}");
    });
    assert!(!treasure.join("new").exists(), "the link was written through");
    Verdict::Proved
}

fn a_race_on_the_out_folder_leads_nowhere() -> Verdict {
    let treasure = treasure();
    // What swaps goes on until it is killed: the end of the job and the collection fall into the middle of it.
    let script = format!(
        "cd /out; mkdir real; echo honest >real/file; ln -s {0} link; ln -s /etc/passwd plain; \
         (while :; do mv -T real swap; mv -T link real; mv -T real link; mv -T swap real; done) & sleep 0.0$1",
        treasure.display()
    );
    for pause in ["1", "2", "3", "5", "7"] {
        let out = stage().folder().join("out");
        fs::create_dir(&out).expect("ours");
        let flags = ["--out", out.to_str().expect("a plain path"), "--", "/bin/sh", "-c", &script, "sh", pause];
        drop(stage().run(&flags));
        for path in files(&out) {
            assert!(fs::symlink_metadata(&path).expect("listed").is_file(), "{}", path.display());
            let content = fs::read_to_string(&path).expect("a file of the job's");
            assert_eq!(content, "honest\n", "{}", path.display());
        }
    }
    Verdict::Proved
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).expect("our own folder").flatten().map(|entry| entry.path());
    let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    found.flat_map(|path| if is_folder(&path) { files(&path) } else { vec![path] }).collect()
}
