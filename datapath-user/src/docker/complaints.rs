//! What is wrong with what dockerd says, each said once while it stays so.

use std::collections::HashMap;

/// What was complained of already, by subject.
#[derive(Debug, Default)]
pub struct Complaints {
    told: HashMap<String, Vec<String>>,
}

impl Complaints {
    /// Logs those causes of this subject that are new. Returns whether there were any.
    pub fn report(&mut self, subject: &str, causes: Vec<String>) -> bool {
        let fresh = self.fresh(subject, causes);
        for cause in &fresh {
            tracing::warn!("{subject}: {cause}");
        }
        !fresh.is_empty()
    }

    /// Remembers these causes instead of earlier ones, and returns those that were not among them.
    fn fresh(&mut self, subject: &str, causes: Vec<String>) -> Vec<String> {
        let told = if causes.is_empty() {
            self.told.remove(subject)
        } else {
            self.told.insert(subject.to_owned(), causes.clone())
        };
        let told = told.unwrap_or_default();
        causes.into_iter().filter(|cause| !told.contains(cause)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_while_it_lasts() {
        let mut complaints = Complaints::default();
        let causes = |list: &[&str]| list.iter().map(|cause| (*cause).to_owned()).collect::<Vec<_>>();
        assert_eq!(complaints.fresh("a", causes(&["x", "y"])), causes(&["x", "y"]));
        assert_eq!(complaints.fresh("a", causes(&["y", "z"])), causes(&["z"]));
        assert_eq!(complaints.fresh("b", causes(&["y"])), causes(&["y"]), "another subject");
        assert_eq!(complaints.fresh("a", causes(&[])), causes(&[]));
        assert_eq!(complaints.fresh("a", causes(&["y"])), causes(&["y"]), "it came back");
    }
}
