//! The sessions of a worker: those of each graph that no lane is using, within a budget of bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::lane::Lane;
use crate::request::Failure;

/// A session of a graph on one processor, or on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    One,
    All,
}

pub struct Opened {
    pub lane: Box<dyn Lane>,
    /// The size of the graph and its weights.
    pub bytes: u64,
}

/// Loads the graph in a file or folder.
pub type Open<'a> = dyn Fn(&Path, Width) -> Result<Opened, Failure> + Sync + 'a;

#[derive(Default)]
struct Sessions {
    idle: HashMap<Width, Vec<Box<dyn Lane>>>,
    /// Sessions that lanes are using or loading.
    used: usize,
    bytes: u64,
    last_used: u64,
}

#[derive(Default)]
pub struct Graphs {
    by_path: HashMap<PathBuf, Sessions>,
    uses: u64,
}

impl Graphs {
    /// Takes an idle session of a graph. `None` if there is none: the caller opens one. Either is given back.
    pub fn take(&mut self, graph: &Path, width: Width) -> Option<Box<dyn Lane>> {
        self.uses += 1;
        let sessions = self.by_path.entry(graph.to_owned()).or_default();
        sessions.used += 1;
        sessions.last_used = self.uses;
        sessions.idle.entry(width).or_default().pop()
    }

    /// The bytes of a graph, once it is loaded.
    pub fn bytes(&self, graph: &Path) -> Option<u64> {
        self.by_path.get(graph).map(|sessions| sessions.bytes).filter(|&bytes| bytes > 0)
    }

    pub fn opened(&mut self, graph: &Path, bytes: u64) {
        if let Some(sessions) = self.by_path.get_mut(graph) {
            sessions.bytes = bytes.max(1);
        }
    }

    /// Gives a session back; `None` for one that could not be opened.
    pub fn give_back(&mut self, graph: &Path, width: Width, lane: Option<Box<dyn Lane>>) {
        let Some(sessions) = self.by_path.get_mut(graph) else { return };
        sessions.used -= 1;
        sessions.idle.entry(width).or_default().extend(lane);
        if sessions.used == 0 && sessions.idle.values().all(Vec::is_empty) {
            self.by_path.remove(graph);
        }
    }

    /// Takes out what is to be unloaded: graphs whose files are gone, and the least recently used ones until the rest fits `budget`. One that is
    /// in use stays, and so does the last used one. The caller drops them, without a lock.
    pub fn unload(&mut self, budget: u64) -> Vec<Box<dyn Lane>> {
        let mut out = Vec::new();
        let gone: Vec<PathBuf> = self
            .by_path
            .iter()
            .filter(|(path, s)| s.used == 0 && !path.exists())
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.by_path.remove(&path).into_iter().for_each(|s| out.extend(s.idle.into_values().flatten()));
        }
        while self.by_path.len() > 1 && self.total_bytes() > budget {
            let idle = self.by_path.iter().filter(|(_, s)| s.used == 0 && s.last_used != self.uses);
            let Some(oldest) = idle.min_by_key(|(_, s)| s.last_used).map(|(path, _)| path.clone()) else { break };
            self.by_path.remove(&oldest).into_iter().for_each(|s| out.extend(s.idle.into_values().flatten()));
        }
        out
    }

    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    pub fn total_bytes(&self) -> u64 {
        self.by_path.values().map(|sessions| sessions.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crew::tests::Echo;

    fn loaded(graphs: &mut Graphs, path: &Path) {
        let lane = graphs.take(path, Width::One);
        graphs.opened(path, 100);
        graphs.give_back(path, Width::One, lane.or_else(|| Some(Box::new(Echo::default()))));
    }

    #[test]
    fn the_least_recently_used_graph_goes_first_and_one_in_use_stays() {
        let folder = std::env::temp_dir();
        let paths: Vec<PathBuf> =
            ["x", "y", "z"].iter().map(|name| folder.join(format!("pg_reco-{}-{name}", std::process::id()))).collect();
        paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
        let mut graphs = Graphs::default();
        paths.iter().for_each(|path| loaded(&mut graphs, path));
        assert_eq!((graphs.len(), graphs.total_bytes()), (3, 300));
        loaded(&mut graphs, &paths[0]);
        let in_use = graphs.take(&paths[1], Width::One);
        assert!(in_use.is_some());
        assert_eq!(graphs.unload(150).len(), 2, "neither the one in use, nor what it was last");
        assert_eq!(graphs.len(), 1);
        graphs.give_back(&paths[1], Width::One, in_use);
        assert!(graphs.unload(0).is_empty(), "the last one stays");
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!(graphs.unload(1 << 40).len(), 1, "its file is gone");
        assert_eq!(graphs.len(), 0);
        paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    #[test]
    fn a_graph_that_could_not_be_opened_leaves_nothing() {
        let mut graphs = Graphs::default();
        assert!(graphs.take(Path::new("/none"), Width::All).is_none());
        graphs.give_back(Path::new("/none"), Width::All, None);
        assert_eq!((graphs.len(), graphs.bytes(Path::new("/none"))), (0, None));
    }
}
