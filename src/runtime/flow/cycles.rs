//! Owns the cycles of a graph: its strongly connected components, by Tarjan's algorithm
//! without recursion, so that no length of a chain overflows the stack. Imports nothing.

/// Which nodes of a graph reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cycles {
    /// The component of each node.
    component: Vec<usize>,
    /// Whether a component has a way back to where it began.
    cyclic: Vec<bool>,
}

const UNSEEN: usize = usize::MAX;

impl Cycles {
    /// The cycles of a graph with so many nodes. Edges to other nodes are left out.
    pub(crate) fn of(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut next = vec![Vec::new(); nodes];
        let mut loops = vec![false; nodes];
        for (from, to) in edges {
            if from < nodes && to < nodes {
                next[from].push(to);
                loops[from] |= from == to;
            }
        }
        let mut search = Search {
            next: &next,
            order: vec![UNSEEN; nodes],
            low: vec![UNSEEN; nodes],
            open: Vec::new(),
            seen: 0,
            component: vec![UNSEEN; nodes],
            sizes: Vec::new(),
        };
        for node in 0..nodes {
            if search.order[node] == UNSEEN {
                search.from(node);
            }
        }
        let component = search.component;
        let mut cyclic: Vec<_> = search.sizes.iter().map(|&size| size > 1).collect();
        for (node, &loops) in loops.iter().enumerate() {
            cyclic[component[node]] |= loops;
        }
        Self { component, cyclic }
    }

    /// Whether an edge between these lies in a cycle.
    pub(crate) fn holds(&self, from: usize, to: usize) -> bool {
        match (self.component.get(from), self.component.get(to)) {
            (Some(a), Some(b)) => a == b && self.cyclic[*a],
            _ => false,
        }
    }

    /// The nodes of each cycle, both in their order.
    pub(crate) fn list(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.cyclic.len()];
        for (node, &component) in self.component.iter().enumerate() {
            members[component].push(node);
        }
        let cyclic = members.into_iter().zip(&self.cyclic);
        let mut cycles: Vec<_> = cyclic
            .filter(|(_, cyclic)| **cyclic)
            .map(|(m, _)| m)
            .collect();
        cycles.sort_unstable();
        cycles
    }
}

/// The search while it goes on.
struct Search<'g> {
    next: &'g [Vec<usize>],
    /// When a node was seen first.
    order: Vec<usize>,
    /// The earliest node that it reaches and whose component is not known yet.
    low: Vec<usize>,
    /// Nodes that were seen and whose component is not known yet.
    open: Vec<usize>,
    seen: usize,
    component: Vec<usize>,
    sizes: Vec<usize>,
}

impl Search<'_> {
    fn from(&mut self, start: usize) {
        // The way to where the search is, with how many edges it has followed from each.
        let mut way = vec![(start, 0)];
        self.enter(start);
        while let Some((node, followed)) = way.last_mut() {
            let node = *node;
            if let Some(&to) = self.next[node].get(*followed) {
                *followed += 1;
                if self.order[to] == UNSEEN {
                    self.enter(to);
                    way.push((to, 0));
                } else if self.component[to] == UNSEEN {
                    self.low[node] = self.low[node].min(self.order[to]);
                }
                continue;
            }
            way.pop();
            if let Some((parent, _)) = way.last() {
                self.low[*parent] = self.low[*parent].min(self.low[node]);
            }
            if self.low[node] == self.order[node] {
                self.close(node);
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.order[node] = self.seen;
        self.low[node] = self.seen;
        self.seen += 1;
        self.open.push(node);
    }

    /// All that was seen since this node, and is open, is one component.
    fn close(&mut self, node: usize) {
        let mut size = 0;
        while let Some(member) = self.open.pop() {
            self.component[member] = self.sizes.len();
            size += 1;
            if member == node {
                break;
            }
        }
        self.sizes.push(size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_has_no_cycle_and_a_loop_is_one() {
        let cycles = Cycles::of(3, [(0, 1), (1, 2), (2, 2)]);
        assert_eq!(cycles.list(), [vec![2]]);
        assert!(cycles.holds(2, 2));
        assert!(!cycles.holds(1, 2) && !cycles.holds(0, 0));
    }

    #[test]
    fn two_cycles_joined_by_an_edge_are_two() {
        let cycles = Cycles::of(5, [(0, 1), (1, 0), (1, 2), (2, 3), (3, 4), (4, 2)]);
        assert_eq!(cycles.list(), [vec![0, 1], vec![2, 3, 4]]);
        assert!(cycles.holds(0, 1) && cycles.holds(4, 2) && !cycles.holds(1, 2));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let nodes = 200_000;
        let chain = (0..nodes).map(|node| (node, (node + 1) % nodes));
        assert_eq!(Cycles::of(nodes, chain).list()[0].len(), nodes);
        assert_eq!(Cycles::of(0, []).list(), [[0; 0]; 0]);
    }

    proptest! {
        #[test]
        fn cycles_are_what_reaches_each_other(edges in vec((0usize..8, 0usize..8), 0..24)) {
            let cycles = Cycles::of(8, edges.iter().copied());
            let mut reaches = [[false; 8]; 8];
            for &(from, to) in &edges {
                reaches[from][to] = true;
            }
            for via in 0..8 {
                for from in 0..8 {
                    for to in 0..8 {
                        reaches[from][to] |= reaches[from][via] && reaches[via][to];
                    }
                }
            }
            let pairs = (0..64).map(|pair| (pair / 8, pair % 8));
            for (from, to) in pairs {
                let both = reaches[from][to] && reaches[to][from];
                prop_assert_eq!(cycles.holds(from, to), both, "{} and {}", from, to);
            }
        }
    }
}
