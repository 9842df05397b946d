//! Golden layouts: pure version 2, hybrid, a delegated service, containers.

use std::collections::BTreeMap;

use super::*;

#[derive(Default)]
struct Fixed {
    controllers: BTreeMap<&'static str, &'static str>,
    not_real_root: bool,
    delegated: Vec<&'static str>,
}

impl Facts for Fixed {
    fn controllers(&self, dir: &Path) -> String {
        self.controllers.get(dir.to_str().unwrap()).copied().unwrap_or_default().to_owned()
    }
    fn is_real_root(&self, _: &Path) -> bool {
        !self.not_real_root
    }
    fn is_delegated(&self, dir: &Path) -> bool {
        self.delegated.iter().any(|known| Path::new(known) == dir)
    }
}

const V2: &str = "25 24 0:23 / /sys rw - sysfs sysfs rw\n\
    33 25 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
    36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
    38 31 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
    39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn on_pure_v2_without_delegation_groups_go_under_the_root() {
    let facts = Fixed { controllers: [("/sys/fs/cgroup", "cpuset cpu io memory pids")].into(), ..Default::default() };
    let layout = Layout::parse(V2, "0::/user.slice/session-1.scope\n", &facts);
    assert_eq!(layout.kind(), Kind::Unified);
    let found = layout.home("memory").unwrap();
    assert_eq!((found.base.as_path(), found.kind, found.own), (Path::new("/sys/fs/cgroup"), Base::Root, false));
}

#[test]
fn a_delegated_service_builds_under_its_own_group() {
    let own = "/sys/fs/cgroup/system.slice/remandd.service";
    let facts = Fixed { controllers: [(own, "cpu memory pids")].into(), delegated: vec![own], ..Default::default() };
    let layout = Layout::parse(V2, "0::/system.slice/remandd.service\n", &facts);
    let found = layout.unified().unwrap();
    assert_eq!((found.base.to_str().unwrap(), found.kind, found.own), (own, Base::Delegated, true));
    assert!(found.has("pids") && !found.has("io"));
}

#[test]
fn a_process_in_a_subgroup_of_the_delegated_group_builds_beside_itself() {
    let base = "/sys/fs/cgroup/system.slice/remandd.service";
    let facts = Fixed { delegated: vec![base], ..Default::default() };
    let layout = Layout::parse(V2, "0::/system.slice/remandd.service/remand/_daemon\n", &facts);
    let found = layout.unified().unwrap();
    assert_eq!((found.base.to_str().unwrap(), found.kind, found.own), (base, Base::Delegated, false));
}

#[test]
fn on_a_hybrid_host_each_controller_is_found_where_it_sits() {
    let own = "9:name=systemd:/\n8:pids:/\n4:memory:/elsewhere/1\n1:cpu,cpuacct:/\n0::/\n";
    let layout = Layout::parse(HYBRID, own, &Fixed::default());
    assert_eq!(layout.kind(), Kind::Hybrid);
    assert_eq!(layout.hierarchies[0].version, Version::V2);
    assert_eq!(layout.home("memory").unwrap().base, Path::new("/sys/fs/cgroup/memory"));
    assert!(!layout.home("memory").unwrap().own && layout.home("pids").unwrap().own);
    assert_eq!(layout.home("cpuacct").unwrap().mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!(layout.home("io").unwrap().mount, Path::new("/sys/fs/cgroup/blkio"));
    assert!(layout.home("cpuset").is_none());
    assert!(layout.hierarchies.iter().all(|found| !found.mount.ends_with("systemd")));
}

#[test]
fn a_container_builds_under_the_root_of_its_cgroup_namespace() {
    let facts = Fixed { not_real_root: true, ..Default::default() };
    let layout = Layout::parse(V2, "0::/\n", &facts);
    let found = layout.unified().unwrap();
    assert_eq!((found.kind, found.own), (Base::NamespaceRoot, true));
}

#[test]
fn a_container_without_a_cgroup_namespace_sees_its_group_as_the_mounts_root() {
    let mounts = "33 25 0:28 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    let facts = Fixed { not_real_root: true, ..Default::default() };
    let layout = Layout::parse(mounts, "0::/docker/ab\n", &facts);
    let found = layout.unified().unwrap();
    assert_eq!((found.base.to_str().unwrap(), found.own), ("/sys/fs/cgroup", true));
}

#[test]
fn a_hierarchy_mounted_from_outside_the_namespace_is_not_used() {
    let mounts = "33 25 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    assert_eq!(Layout::parse(mounts, "0::/\n", &Fixed::default()).kind(), Kind::Absent);
}

#[test]
fn a_second_mount_of_the_same_hierarchy_is_ignored_and_escapes_are_undone() {
    let mounts = format!("50 1 0:28 / /srv/my\\040groups rw - cgroup2 none rw\n{V2}");
    let layout = Layout::parse(&mounts, "0::/\n", &Fixed::default());
    assert_eq!(layout.hierarchies.len(), 1);
    assert_eq!(layout.hierarchies[0].mount, Path::new("/sys/fs/cgroup"));
    let only = Layout::parse(mounts.lines().next().unwrap(), "0::/\n", &Fixed::default());
    assert_eq!(only.hierarchies[0].mount, Path::new("/srv/my groups"));
}

#[test]
fn torn_or_foreign_lines_are_skipped() {
    for text in ["", "garbage", "1 2 3 - cgroup2", "1 2 0:1 / /x rw - cgroup", "1 2 0:1 / /x rw - cgroup2 a \\9"] {
        let layout = Layout::parse(text, "x\n0:\n", &Fixed::default());
        assert!(layout.hierarchies.len() <= 1, "{text:?}");
    }
}
