//! A program of the documents that receives events.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::wait_for;

/// The secret that a receiver verifies with, as livehook has it.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==";

/// A receiver that runs in a folder of its own. Dropping it kills the process.
pub struct Receiver {
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
}

impl Receiver {
    /// Starts a program that listens at this address, and waits for it.
    pub fn start(mut program: Command, folder: TempDir, address: SocketAddr) -> Self {
        let child = program
            .current_dir(folder.path())
            .stdout(File::create(folder.path().join("out.txt")).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut receiver = Self {
            child,
            folder,
            address,
        };
        wait_for("the receiver", || {
            let ended = receiver.child.try_wait().unwrap();
            assert!(ended.is_none(), "the receiver has ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        receiver
    }

    /// What it has printed.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out.txt")).unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
