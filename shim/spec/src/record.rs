//! What the shim reports: records of 16 bytes, so that no length of a job's making is ever read.
//!
//! `Ready` follows the facts and comes before the payload's first instruction; `Handed` says that exec happened;
//! `Fault` says which stage failed and why. The end of the stream without one of the last two means that the shim died.

/// The bytes of one record.
pub const RECORD_BYTES: usize = 16;

/// The daemon's first byte on the same socket: the start is durably recorded. Any byte after it is the order to kill.
pub const LEAVE: u8 = b'g';

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$item])* $variant = $number,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The one with this number.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| *item as u32 == number)
            }

            /// Its name in records.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

numbered! {
    /// The stages of a cell's making, in the order in which they are gone through.
    Stage {
        /// The spawner reads, vets and finds the template root.
        Vet = 1 "vet",
        /// The template of the root is assembled.
        Template = 2 "template",
        /// The namespaces are made.
        Clone = 3 "clone",
        /// The user and group ids are mapped.
        Ids = 4 "ids",
        /// The shim starts and reads its spec.
        Shim = 5 "shim",
        /// The control groups are entered.
        Cgroup = 6 "cgroup",
        /// Host name and loopback.
        Names = 7 "names",
        /// Writable places, procfs, terminal.
        Root = 8 "root",
        /// Clocks of its own.
        Time = 9 "time",
        /// Resource limits of processes.
        Limits = 10 "limits",
        /// The payload's process is split off.
        Split = 11 "split",
        /// Streams, session, signals, descriptors.
        Streams = 12 "streams",
        /// Capabilities, securebits, ids, keyring.
        Privileges = 13 "privileges",
        /// Landlock.
        Landlock = 14 "landlock",
        /// seccomp.
        Seccomp = 15 "seccomp",
        /// The program is looked up and executed.
        Exec = 16 "exec",
        /// The output files are read.
        Collect = 17 "collect",
    }
}

numbered! {
    /// What the kernel said when it was asked again, from inside.
    Fact {
        /// Inode number of the user namespace.
        UserNamespace = 1 "user_namespace",
        /// Inode number of the pid namespace.
        PidNamespace = 2 "pid_namespace",
        /// Inode number of the mount namespace.
        MountNamespace = 3 "mount_namespace",
        /// Inode number of the network namespace.
        NetNamespace = 4 "net_namespace",
        /// Inode number of the IPC namespace.
        IpcNamespace = 5 "ipc_namespace",
        /// Inode number of the UTS namespace.
        UtsNamespace = 6 "uts_namespace",
        /// Inode number of the cgroup namespace.
        CgroupNamespace = 7 "cgroup_namespace",
        /// Inode number of the time namespace.
        TimeNamespace = 8 "time_namespace",
        /// Landlock ABI of the kernel.
        LandlockAbi = 9 "landlock_abi",
        /// Landlock rules that were added.
        LandlockRules = 10 "landlock_rules",
        /// seccomp filters that were loaded.
        SeccompFilters = 11 "seccomp_filters",
        /// Union of the five capability sets.
        Capabilities = 12 "capabilities",
        /// securebits.
        Securebits = 13 "securebits",
        /// Bytes of the writable places.
        ScratchBytes = 14 "scratch_bytes",
        /// Inodes of the writable places.
        ScratchInodes = 15 "scratch_inodes",
        /// `RLIMIT_NOFILE`.
        LimitNofile = 16 "limit_nofile",
        /// `RLIMIT_CORE`.
        LimitCore = 17 "limit_core",
        /// Free bytes of the writable places at the end.
        ScratchBytesFree = 18 "scratch_bytes_free",
        /// Free inodes of the writable places at the end.
        ScratchInodesFree = 19 "scratch_inodes_free",
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A stage was done at this monotonic time, in nanoseconds.
    Done(Stage, u64),
    /// Something was read back.
    Fact(Fact, u64),
    /// Every wall stands; exec is next.
    Ready,
    /// The program runs.
    Handed(u64),
    /// A stage failed with this error number.
    Fault(Stage, u32),
    /// The payload's process ended with this wait status.
    Ended(u32),
    /// An output file follows on the stream: the length of its path, its mode, its size.
    File(u16, u16, u64),
    /// A file was left out: see [`Omission`].
    Omitted(Omission, u64),
    /// Everything was reported; the shim ends.
    Finished,
    /// The descriptor for seccomp's user notifications comes with this record, from the payload's process to the keeper.
    Listener,
    /// The master of the payload's terminal comes with this record.
    Terminal,
    /// The job made a system call, by number, that was refused with this error number, or with 0 is its end; told once.
    Denied(u32, u32),
}

numbered! {
    /// Why an output file was not collected.
    Omission {
        /// Not a regular file.
        Kind = 1 "not a regular file",
        /// The number of files is reached.
        Count = 2 "more files than the limit",
        /// The number of bytes is reached.
        Bytes = 3 "more bytes than the limit",
        /// Too deep or with too long a path.
        Path = 4 "path too deep or too long",
        /// It could not be read.
        Read = 5 "could not be read",
    }
}

impl Record {
    /// The record's 16 bytes: kind, a number, a wide number.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let (kind, number, wide) = match self {
            Self::Done(stage, time) => (1, stage as u32, time),
            Self::Fact(fact, value) => (2, fact as u32, value),
            Self::Ready => (3, 0, 0),
            Self::Handed(time) => (4, 0, time),
            Self::Fault(stage, errno) => (5, stage as u32, u64::from(errno)),
            Self::Ended(status) => (6, status, 0),
            Self::File(path, mode, size) => (7, u32::from(path) << 16 | u32::from(mode), size),
            Self::Omitted(why, count) => (8, why as u32, count),
            Self::Finished => (9, 0, 0),
            Self::Listener => (10, 0, 0),
            Self::Terminal => (11, 0, 0),
            Self::Denied(call, errno) => (12, call, u64::from(errno)),
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&u32::to_le_bytes(kind));
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&wide.to_le_bytes());
        bytes
    }

    /// The record that the bytes spell, or nothing.
    #[must_use]
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, wide @ ..] = *bytes;
        let (number, wide) = (u32::from_le_bytes([e, f, g, h]), u64::from_le_bytes(wide));
        Some(match u32::from_le_bytes([a, b, c, d]) {
            1 => Self::Done(Stage::from_number(number)?, wide),
            2 => Self::Fact(Fact::from_number(number)?, wide),
            3 => Self::Ready,
            4 => Self::Handed(wide),
            5 => Self::Fault(Stage::from_number(number)?, u32::try_from(wide).ok()?),
            6 => Self::Ended(number),
            7 => Self::File((number >> 16) as u16, number as u16, wide),
            8 => Self::Omitted(Omission::from_number(number)?, wide),
            9 => Self::Finished,
            10 => Self::Listener,
            11 => Self::Terminal,
            12 => Self::Denied(number, u32::try_from(wide).ok()?),
            _ => return None,
        })
    }
}
