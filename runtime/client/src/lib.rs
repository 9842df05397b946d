//! Blocking client of the envelope: one connection, one request at a time, no thread and no runtime of its own.
//!
//! ```no_run
//! use remand_client::{Captured, Client};
//! use remand_model::run::RunRequest;
//!
//! let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
//! client.hello()?;
//! client.attach(&"local".parse()?, None)?;
//! let request = RunRequest::new("first".parse()?, vec!["echo".into(), "hello".into()]);
//! let mut output = Captured::default();
//! let end = client.run(&request, None, &mut output)?;
//! assert_eq!((end.result.exit_code, output.stdout.as_slice()), (0, &b"hello\n"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod blob;
mod calls;
mod error;
mod run;
mod session;
mod sink;
mod wire;

pub use blob::{Stored, Upload};
pub use error::ClientError;
pub use run::RunEnd;
pub use session::{ANSWER_BYTES_MAX, ANSWER_WAIT, Client, Greeting};
pub use sink::{Captured, Control, FileSink, RunSink};

/// Where the daemon listens when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/remand/root.sock";
