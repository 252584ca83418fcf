//! Strings to numbers, looked up in mapped bytes.
//!
//! The format is the double array of darts-clone, which `yada` writes and sentencepiece's character maps hold: one `u32`
//! a node, little-endian, and the child for byte `c` at `(node ^ offset) ^ c`. It is read here rather than with `yada`
//! since that refuses NUL bytes by a panic, begins every search at the root, and trusts the bytes unless it has read
//! them all.

use bytes::Bytes;

/// A trie in mapped bytes. Bytes that are no trie give wrong answers, never a panic: each step is bounds-checked, and a
/// search takes at most as many steps as its key has bytes.
#[derive(Clone, Debug)]
pub struct Trie(Bytes);

/// A place in a [`Trie`]: what has been read of a key so far.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Where the children are counted from: a child's place is this, exclusive-or its byte.
    children: usize,
    /// Whether a key ends here.
    is_key: bool,
}

impl Trie {
    pub fn new(units: Bytes) -> Self {
        Self(units)
    }

    /// The node of the empty key; none in an empty trie.
    pub fn root(&self) -> Option<Node> {
        let unit = self.unit(0)?;
        // A key of no bytes cannot be stored: the root holds none.
        Some(Node { children: offset(unit), is_key: false })
    }

    /// The node after `from` and all of `bytes`; none where no key begins so.
    pub fn follow(&self, from: Node, bytes: &[u8]) -> Option<Node> {
        bytes.iter().try_fold(from, |node, &byte| self.child(node, byte))
    }

    /// The number of `key`.
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        self.value(self.follow(self.root()?, key)?)
    }

    /// Every key that begins at `from` and goes on as `text` does: how many bytes of `text` it takes, at least one, and
    /// its number; shorter keys first.
    pub fn prefixes<'a>(&'a self, from: Node, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let nodes = text.iter().scan(from, |node, &byte| {
            *node = self.child(*node, byte)?;
            Some(*node)
        });
        nodes.enumerate().filter_map(|(before, node)| Some((before + 1, self.value(node)?)))
    }

    #[inline]
    fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let place = node.children ^ usize::from(byte);
        let unit = self.unit(place)?;
        // Bit 31 marks a number; a zero byte is where a node's number lies, so no key holds one.
        if unit & (1 << 31 | 0xFF) != u32::from(byte) || byte == 0 {
            return None;
        }
        Some(Node { children: place ^ offset(unit), is_key: unit >> 8 & 1 == 1 })
    }

    #[inline]
    fn value(&self, node: Node) -> Option<u32> {
        if node.is_key { Some(self.unit(node.children)? & !(1 << 31)) } else { None }
    }

    #[inline]
    fn unit(&self, place: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.0.get(place * 4..)?.first_chunk()?))
    }
}

/// From a node to its children: 21 bits, which bit 9 shifts by 8.
#[inline]
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(keys: &[(&str, u32)]) -> Trie {
        Trie::new(yada::builder::DoubleArrayBuilder::build(keys).unwrap().into())
    }

    #[test]
    fn keys_have_their_numbers_and_others_none() {
        let trie = trie(&[("a", 7), ("ab", 0), ("abc", u32::MAX >> 1), ("é", 3)]);
        assert_eq!(["a", "ab", "abc", "é"].map(|k| trie.get(k.as_bytes())), [Some(7), Some(0), Some(!0 >> 1), Some(3)]);
        assert_eq!(["", "b", "abcd", "\0", "a\0", "è"].map(|k| trie.get(k.as_bytes())), [None; 6]);
    }

    #[test]
    fn prefixes_come_shorter_first_from_any_node() {
        let trie = trie(&[("#", 1), ("#a", 2), ("#ab", 3), ("#abcd", 4)]);
        let root = trie.root().unwrap();
        let after = trie.follow(root, b"#").unwrap();
        assert_eq!(trie.prefixes(after, b"abcx").collect::<Vec<_>>(), [(1, 2), (2, 3)]);
        assert_eq!(trie.prefixes(root, b"#abcde").map(|(n, _)| n).collect::<Vec<_>>(), [1, 2, 3, 5]);
        assert_eq!(trie.prefixes(root, b"\0#").count(), 0);
        assert!(trie.follow(root, b"a").is_none());
    }

    #[test]
    fn bytes_that_are_no_trie_are_searched_to_an_end() {
        assert!(Trie::new(Bytes::new()).root().is_none());
        let ones = Trie::new(vec![0xFF; 64].into());
        assert_eq!(ones.get(&[0x7F; 100]), None);
        // Every node its own child: as many steps as the key has bytes.
        let same = Trie::new([b'a', 1, 0, 0].repeat(256).into());
        assert!(same.prefixes(same.root().unwrap(), &[b'a'; 1000]).count() <= 1000);
    }
}
