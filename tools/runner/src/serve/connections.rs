//! The connections that are open, how many there may be, and how they end.

use std::net::Shutdown;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::line::Socket;

/// How long the end of a connection is waited for that was shut down to make room.
const MAKING_ROOM: Duration = Duration::from_secs(1);

/// A connection, as the others see it.
struct Open {
    number: u64,
    /// None of a serial port or a pipe.
    socket: Option<Socket>,
    /// Since when nothing is to be done for it: since the last answer, or the last bytes.
    idle: Option<Instant>,
}

/// All of them.
struct State {
    open: Vec<Open>,
    opened: u64,
    is_stopping: bool,
}

/// The connections that are open.
pub(super) struct Connections {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// Why there is none for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All are at work.
    Full,
    /// The program ends.
    Stopping,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        let state = State { open: Vec::new(), opened: 0, is_stopping: false };
        Self { most, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A list has no state in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one. Where there are as many as there may be, the one ends that has been idle for longest.
    pub(super) fn open(&self, socket: Option<Socket>) -> Result<u64, Refused> {
        let mut state = self.state();
        if state.open.len() >= self.most && !state.is_stopping {
            let idle = state.open.iter().filter(|open| open.idle.is_some());
            let longest = idle.min_by_key(|open| open.idle).ok_or(Refused::Full)?;
            if let Some(socket) = &longest.socket {
                socket.shut_down(Shutdown::Both);
            }
            let is_full = |state: &mut State| state.open.len() >= self.most && !state.is_stopping;
            state = self
                .changed
                .wait_timeout_while(state, MAKING_ROOM, is_full)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if state.is_stopping {
            return Err(Refused::Stopping);
        }
        if state.open.len() >= self.most {
            return Err(Refused::Full);
        }
        state.opened += 1;
        let number = state.opened;
        state.open.push(Open { number, socket, idle: Some(Instant::now()) });
        Ok(number)
    }

    /// Notes whether something is to be done for a connection.
    pub(super) fn set_idle(&self, number: u64, is_idle: bool) {
        let mut state = self.state();
        if let Some(open) = state.open.iter_mut().find(|open| open.number == number) {
            open.idle = is_idle.then(Instant::now);
        }
        if state.is_stopping {
            self.changed.notify_all();
        }
    }

    /// One has ended.
    pub(super) fn close(&self, number: u64) {
        self.state().open.retain(|open| open.number != number);
        self.changed.notify_all();
    }

    /// Ends all: nothing more is read. Comes back when the answers that were being made are given, or after `limit`; whether all
    /// were.
    #[cfg(unix)] // by a signal
    pub(super) fn stop(&self, limit: Duration) -> bool {
        let mut state = self.state();
        state.is_stopping = true;
        for socket in state.open.iter().filter_map(|open| open.socket.as_ref()) {
            socket.shut_down(Shutdown::Read);
        }
        let at_work =
            |state: &mut State| state.open.iter().any(|open| open.socket.is_some() || open.idle.is_none());
        let waited = self.changed.wait_timeout_while(state, limit, at_work);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_one_that_is_idle_for_longest_makes_room() {
        let connections = Connections::new(2);
        let sockets: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let socket = |index: usize| Some(Socket::Unix(sockets[index].0.try_clone().unwrap()));
        let [first, second] = [0, 1].map(|index| connections.open(socket(index)).unwrap());
        connections.set_idle(first, false);
        connections.set_idle(second, false);
        assert_eq!(connections.open(socket(2)), Err(Refused::Full));
        connections.set_idle(second, true);
        connections.set_idle(first, true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut byte = [0];
                assert_eq!(std::io::Read::read(&mut &sockets[1].0, &mut byte).unwrap(), 0);
                connections.close(second);
            });
            assert!(connections.open(socket(2)).is_ok());
        });
        connections.set_idle(first, false);
        assert!(!connections.stop(Duration::from_millis(20)), "one is at work");
        assert_eq!(connections.open(socket(1)), Err(Refused::Stopping));
    }
}
