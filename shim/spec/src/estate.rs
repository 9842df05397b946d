//! What root allows this machine's spawner to hand out: a file that only root writes.
//!
//! One `name = value` a line, `#` comments; lists are repeated lines. Unknown names are refused, so that a misspelt
//! restriction is never a missing one.

/// Host ids of one cell: the range that a user namespace maps.
pub const IDS_OF_A_CELL: u32 = 65_536;

/// The estate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estate {
    /// First host id of the pool.
    pub ids_first: u32,
    /// How many cells' ranges the pool holds.
    pub ids_cells: u32,
    /// Host paths that may be shown read-only, with everything below.
    pub roots: Vec<Vec<u8>>,
    /// Host paths that may be shown writable, with everything below.
    pub writable_roots: Vec<Vec<u8>>,
    /// Name of the control group that all cells live below, in every hierarchy.
    pub group: Vec<u8>,
    /// Version 1 hierarchies: folders whose `tasks` the shim writes.
    pub groups_v1: Vec<Vec<u8>>,
    /// Hierarchies that cells are not moved into but that have groups of theirs, to be cleared.
    pub groups_idle: Vec<Vec<u8>>,
    /// The version 2 folder, if cells are to be cloned into one.
    pub group_v2: Option<Vec<u8>>,
}

/// A line of the estate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstateError {
    /// Number of the line, from 1; 0 where the file as a whole lacks something.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl std::fmt::Display for EstateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for EstateError {}

impl Estate {
    /// Reads an estate.
    ///
    /// # Errors
    /// [`EstateError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, EstateError> {
        let (mut roots, mut writable_roots) = (Vec::new(), Vec::new());
        let (mut groups_v1, mut groups_idle) = (Vec::new(), Vec::new());
        let (mut ids_first, mut ids_cells, mut group, mut group_v2) = (None, None, None, None);
        for (at, line) in text.lines().enumerate() {
            let wrong = |reason| EstateError { line: at + 1, reason };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(wrong("a line is NAME = VALUE"))?;
            let value = value.trim();
            let number = || value.parse::<u32>().map_err(|_| wrong("a whole number is wanted"));
            let path = || {
                if value.starts_with('/') { Ok(value.as_bytes().to_vec()) } else { Err(wrong("a path starts with /")) }
            };
            match name.trim() {
                "ids_first" => ids_first = Some(number()?),
                "ids_cells" => ids_cells = Some(number()?),
                "root" => roots.push(path()?),
                "writable_root" => writable_roots.push(path()?),
                "group" => group = Some(value.as_bytes().to_vec()),
                "group_v1" => groups_v1.push(path()?),
                "group_idle" => groups_idle.push(path()?),
                "group_v2" => group_v2 = Some(path()?),
                _ => return Err(wrong("unknown name")),
            }
        }
        let lacks = |reason| EstateError { line: 0, reason };
        let estate = Self {
            ids_first: ids_first.ok_or(lacks("ids_first is missing"))?,
            ids_cells: ids_cells.ok_or(lacks("ids_cells is missing"))?,
            group: group.ok_or(lacks("group is missing"))?,
            roots,
            writable_roots,
            groups_v1,
            groups_idle,
            group_v2,
        };
        estate.check()
    }

    /// The estate as text that [`Estate::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("ids_first = {}\nids_cells = {}\n", self.ids_first, self.ids_cells);
        let mut line = |name: &str, value: &[u8]| {
            text.push_str(&format!("{name} = {}\n", String::from_utf8_lossy(value)));
        };
        line("group", &self.group);
        self.roots.iter().for_each(|root| line("root", root));
        self.writable_roots.iter().for_each(|root| line("writable_root", root));
        self.groups_v1.iter().for_each(|group| line("group_v1", group));
        self.groups_idle.iter().for_each(|group| line("group_idle", group));
        self.group_v2.iter().for_each(|group| line("group_v2", group));
        text
    }

    fn check(self) -> Result<Self, EstateError> {
        let lacks = |reason| EstateError { line: 0, reason };
        let ids = u64::from(self.ids_cells) * u64::from(IDS_OF_A_CELL);
        if self.ids_first < IDS_OF_A_CELL {
            return Err(lacks("ids_first must be 65536 or more: lower ids are the host's own"));
        }
        if self.ids_cells == 0 || u64::from(self.ids_first) + ids > u64::from(u32::MAX) {
            return Err(lacks("the range of ids is empty or leaves the 32 bits"));
        }
        if self.group.is_empty() || self.group.contains(&b'/') {
            return Err(lacks("group is one name without a slash"));
        }
        if self.groups_v1.is_empty() && self.group_v2.is_none() {
            return Err(lacks("neither group_v1 nor group_v2 is given: limits would not hold"));
        }
        Ok(self)
    }
}
