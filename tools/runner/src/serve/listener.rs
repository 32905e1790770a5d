//! Sockets on which clients come.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::failure::{Failure, Outcome, work};
use crate::line::Socket;

/// A socket on which clients come.
pub(super) enum Listener {
    #[cfg(unix)]
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// On a Unix socket at `path`; and what is to be removed in the end.
    #[cfg(unix)]
    pub(super) fn unix(path: &std::path::Path) -> Outcome<(Self, Option<PathBuf>)> {
        use std::os::unix::fs::FileTypeExt;
        let failed = |error: &dyn std::fmt::Display| work(path.display(), error);
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(failed(&"something else has this name: name another, or remove it"));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(failed(&"another server answers there"));
            }
            std::fs::remove_file(path).map_err(|error| failed(&error))?;
        }
        let listener = UnixListener::bind(path).map_err(|error| failed(&error))?;
        Ok((Listener::Unix(listener), Some(path.to_owned())))
    }

    /// On a TCP port.
    pub(super) fn tcp(address: SocketAddr, allow_remote: bool) -> Outcome<(Self, Option<PathBuf>)> {
        if !address.ip().is_loopback() && !allow_remote {
            return Err(Failure::Usage(format!(
                "--tcp {address}: clients on other machines would reach it, and nothing asks who they are: give 127.0.0.1, or --allow-remote"
            )));
        }
        if address.ip().is_loopback() && allow_remote {
            return Err(Failure::Usage(format!(
                "--allow-remote: no other machine reaches {address}: give an address that they do"
            )));
        }
        let listener = TcpListener::bind(address).map_err(|error| work(address, error))?;
        Ok((Listener::Tcp(listener), None))
    }

    /// Where it is, as people write it.
    pub(super) fn shown(&self) -> String {
        match self {
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "a socket".into(), |path| path.display().to_string())
            }
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "a port".into(), |address| address.to_string())
            }
        }
    }

    /// The next client.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            #[cfg(unix)]
            Listener::Unix(listener) => Socket::Unix(listener.accept()?.0),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // An answer's last bytes would wait for the client to say that it has those before.
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
        })
    }
}
