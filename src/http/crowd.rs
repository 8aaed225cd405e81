//! Who is connected. A server has so many places; when all are taken, a newcomer gets
//! that of somebody who only sits there. So nobody is locked out by those who connect
//! and say nothing, or take for ever to say it, however many they are.
//!
//! A connection *sits* while the server waits for it: before a request, between two, and
//! until one has come in whole. Whoever waits for the server instead (a handler is at
//! work, a stream flows) keeps the place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Crowd {
    places: usize,
    inner: Mutex<Inner>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    guests: HashMap<u64, Guest>,
    /// Told to leave, and still there.
    leaving: usize,
    /// Who sits, by address and then by since when.
    sitting: HashMap<IpAddr, BTreeMap<u64, u64>>,
    /// The addresses by how many of theirs sit.
    ranks: BTreeSet<(usize, IpAddr)>,
}

#[derive(Debug)]
struct Guest {
    peer: IpAddr,
    /// Requests at work; a body may outlive the next request's beginning.
    busy: usize,
    /// Since when it sits, as a number that grows.
    sits: Option<u64>,
    leaving: bool,
    leave: Arc<Notify>,
}

impl Crowd {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, inner: Mutex::default(), emptied: Notify::new() })
    }

    /// A place for somebody from `peer`. `None`: all are taken by others who wait for the
    /// server.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Seat>> {
        let mut inner = self.lock();
        if inner.guests.len() - inner.leaving >= self.places && !inner.make_room() {
            return None;
        }
        let (id, leave) = (inner.number(), Arc::new(Notify::new()));
        let guest = Guest { peer, busy: 0, sits: None, leaving: false, leave: leave.clone() };
        inner.guests.insert(id, guest);
        inner.sit(id);
        drop(inner);
        Some(Arc::new(Seat { crowd: self.clone(), id, leave }))
    }

    /// How many are there.
    pub(super) fn count(&self) -> usize {
        self.lock().guests.len()
    }

    /// Completes once nobody is there.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Tells one to leave: of the address with most who sit, the one who sits for
    /// longest.
    fn make_room(&mut self) -> bool {
        let Some((_, peer)) = self.ranks.last() else { return false };
        let longest = self.sitting.get(peer).and_then(|sitting| sitting.first_key_value());
        let Some(id) = longest.map(|(_, id)| *id) else { return false };
        self.rise(id);
        let Some(guest) = self.guests.get_mut(&id) else { return false };
        guest.leaving = true;
        self.leaving += 1;
        guest.leave.notify_one();
        true
    }

    fn sit(&mut self, id: u64) {
        let since = self.number();
        let Some(guest) = self.guests.get_mut(&id).filter(|guest| !guest.leaving) else { return };
        guest.sits = Some(since);
        let peer = guest.peer;
        self.change(peer, |sitting| sitting.insert(since, id));
    }

    fn rise(&mut self, id: u64) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let (peer, Some(since)) = (guest.peer, guest.sits.take()) else { return };
        self.change(peer, |sitting| sitting.remove(&since));
    }

    fn change<T>(&mut self, peer: IpAddr, change: impl FnOnce(&mut BTreeMap<u64, u64>) -> T) {
        let sitting = self.sitting.entry(peer).or_default();
        self.ranks.remove(&(sitting.len(), peer));
        change(sitting);
        match sitting.len() {
            0 => drop(self.sitting.remove(&peer)),
            count => drop(self.ranks.insert((count, peer))),
        }
    }
}

/// A connection's place, until the last of it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
    leave: Arc<Notify>,
}

impl Seat {
    /// From now on the client waits for the server.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        let mut inner = self.crowd.lock();
        inner.rise(self.id);
        if let Some(guest) = inner.guests.get_mut(&self.id) {
            guest.busy += 1;
        }
        Work(self.clone())
    }

    /// Whether the client waits for the server.
    pub(super) fn works(&self) -> bool {
        self.crowd.lock().guests.get(&self.id).is_some_and(|guest| guest.busy > 0)
    }

    /// Completes once it is to leave.
    pub(super) async fn to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.crowd.lock();
        inner.rise(self.id);
        if inner.guests.remove(&self.id).is_some_and(|guest| guest.leaving) {
            inner.leaving -= 1;
        }
        if inner.guests.is_empty() {
            self.crowd.emptied.notify_waiters();
        }
    }
}

/// A request is at work. When the last of its connection is dropped, that sits again.
#[derive(Debug)]
pub(super) struct Work(Arc<Seat>);

impl Drop for Work {
    fn drop(&mut self) {
        let mut inner = self.0.crowd.lock();
        let Some(guest) = inner.guests.get_mut(&self.0.id) else { return };
        guest.busy -= 1;
        if guest.busy == 0 {
            inner.sit(self.0.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn told(seat: &Arc<Seat>) -> bool {
        seat.to_leave().now_or_never().is_some()
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_sits_for_longest_where_most_sit_makes_room() {
        let crowd = Crowd::new(4);
        let one = crowd.admit(from(1)).unwrap();
        let many: Vec<_> = (0..3).map(|_| crowd.admit(from(2)).unwrap()).collect();
        let new = crowd.admit(from(3)).unwrap();
        assert!(told(&many[0]) && !told(&one) && !told(&many[1]));
        // The place is free once, though who had it has not gone yet.
        let newer = crowd.admit(from(3)).unwrap();
        assert!(told(&many[1]) && !told(&new));
        drop(many);
        assert_eq!(crowd.count(), 3);
        let last = crowd.admit(from(1)).unwrap();
        assert!(![&one, &new, &newer, &last].into_iter().any(told), "there was room");
    }

    #[test]
    fn who_waits_for_the_server_keeps_the_place() {
        let crowd = Crowd::new(2);
        let (one, two) = (crowd.admit(from(1)).unwrap(), crowd.admit(from(1)).unwrap());
        let (work, more) = (one.work(), one.work());
        let other = two.work();
        assert!(crowd.admit(from(2)).is_none(), "all wait");
        drop(work);
        assert!(one.works() && crowd.admit(from(2)).is_none());
        drop(more);
        assert!(!one.works());
        let three = crowd.admit(from(2)).unwrap();
        assert!(told(&one) && !told(&two) && !told(&three));
        // It got a request after all: it is told once, and is not counted twice.
        drop(one.work());
        let four = crowd.admit(from(3)).unwrap();
        assert!(told(&three) && !told(&four));
        drop((one, two, three, four, other));
        assert_eq!(crowd.count(), 0);
        assert!(crowd.emptied().now_or_never().is_some());
        let inner = crowd.lock();
        assert!(inner.sitting.is_empty() && inner.ranks.is_empty() && inner.leaving == 0);
    }
}
