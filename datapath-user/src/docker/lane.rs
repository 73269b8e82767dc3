//! Which objects to fetch, so many at a time, each once however often it is asked for.

use std::collections::{HashMap, HashSet, VecDeque};

/// Fetches of one kind of object. An object asked for while it waits is fetched once; asked for while it is being
/// fetched, it is fetched once more, as the answer under way may be older than the question.
#[derive(Debug)]
pub struct Lane {
    limit: usize,
    waiting: VecDeque<String>,
    queued: HashSet<String>,
    running: HashMap<String, bool>,
}

impl Lane {
    /// A lane with so many fetches at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit, waiting: VecDeque::new(), queued: HashSet::new(), running: HashMap::new() }
    }

    /// Asks for an object.
    pub fn want(&mut self, id: &str) {
        if let Some(again) = self.running.get_mut(id) {
            *again = true;
        } else if self.queued.insert(id.to_owned()) {
            self.waiting.push_back(id.to_owned());
        }
    }

    /// The next to fetch now.
    pub fn start(&mut self) -> Option<String> {
        if self.running.len() >= self.limit {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.queued.remove(&id);
        self.running.insert(id.clone(), false);
        Some(id)
    }

    /// An answer came.
    pub fn finish(&mut self, id: &str) {
        if self.running.remove(id) == Some(true) {
            self.want(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalesces_and_bounds() {
        let mut lane = Lane::new(2);
        for id in ["a", "b", "c", "a", "b", "c"] {
            lane.want(id);
        }
        assert_eq!((lane.start().as_deref(), lane.start().as_deref()), (Some("a"), Some("b")));
        assert_eq!(lane.start(), None, "two at a time");
        lane.want("a");
        lane.want("a");
        lane.finish("a");
        assert_eq!(lane.start().as_deref(), Some("c"), "in the order of asking");
        lane.finish("b");
        assert_eq!(lane.start().as_deref(), Some("a"), "asked for while under way: once more");
        lane.finish("a");
        lane.finish("c");
        assert_eq!(lane.start(), None);
    }
}
