//! Where the bytes of an execution go, and what its caller can say meanwhile.

use std::io;
use std::os::fd::BorrowedFd;

use remand_model::ExecutionId;
use remand_model::outcome::OutputFile;
use serde_json::Value;

/// What a caller can say to a running execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// End it now, with everything that it started.
    Cancel,
    /// The caller's window has this size, in characters.
    Window {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
}

/// Takes what an execution sends. After an error the execution is cancelled and the rest of its bytes are dropped.
pub trait RunSink {
    /// The daemon took the request; the execution has this id from now on.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn accepted(&mut self, _execution_id: &ExecutionId) -> io::Result<()> {
        Ok(())
    }

    /// Bytes of standard output; with a terminal, everything.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Bytes of standard error.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Another event of the execution, a progress note for instance.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn event(&mut self, _event: &Value) -> io::Result<()> {
        Ok(())
    }

    /// Where output files go. Files that come while there is no such place are dropped.
    fn files(&mut self) -> Option<&mut dyn FileSink> {
        None
    }

    /// A descriptor that becomes readable when [`RunSink::controls`] has something to say.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What the caller wants to say now. Called after [`RunSink::wake`] became readable; must drain it.
    fn controls(&mut self) -> Vec<Control> {
        Vec::new()
    }
}

/// Takes files one after another. Their names and bytes are a job's: nothing in them is to be believed.
pub trait FileSink {
    /// A file begins.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn begin(&mut self, file: &OutputFile) -> io::Result<()>;

    /// More bytes of the file.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The file is whole, and its bytes have the digest that the result names. A file that is not ended is to be dropped.
    ///
    /// # Errors
    /// What keeps the sink from going on.
    fn end(&mut self) -> io::Result<()>;
}

/// Keeps everything in memory; the execution's limits bound how much that is.
#[derive(Debug, Default)]
pub struct Captured {
    /// The execution's id, once it was accepted.
    pub execution_id: Option<ExecutionId>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Output files: path as in the result, bytes.
    pub files: Vec<(String, Vec<u8>)>,
}

impl RunSink for Captured {
    fn accepted(&mut self, execution_id: &ExecutionId) -> io::Result<()> {
        self.execution_id = Some(execution_id.clone());
        Ok(())
    }

    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stderr.extend_from_slice(bytes);
        Ok(())
    }

    fn files(&mut self) -> Option<&mut dyn FileSink> {
        Some(self)
    }
}

impl FileSink for Captured {
    fn begin(&mut self, file: &OutputFile) -> io::Result<()> {
        self.files.push((file.path.clone(), Vec::new()));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((_, content)) = self.files.last_mut() {
            content.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}
