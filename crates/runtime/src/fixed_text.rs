//! Text of bounded length without pointers, for shared memory.

/// At most `N` bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FixedText<const N: usize> {
    length: u16,
    /// Zero-padded, so that equal texts have equal bytes.
    bytes: [u8; N],
}

impl<const N: usize> FixedText<N> {
    /// As much of `text` as fits, cut at a character boundary.
    pub fn new(text: &str) -> Self {
        let length = text.floor_char_boundary(N.min(u16::MAX as usize));
        let mut bytes = [0; N];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { length: length as u16, bytes }
    }

    pub fn as_str(&self) -> &str {
        // What `new` wrote is UTF-8, and zeroed memory is the empty text.
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_comes_out_as_it_went_in() {
        for text in ["", "a", "推荐", "12345678"] {
            assert_eq!(FixedText::<8>::new(text).as_str(), text);
        }
    }

    #[test]
    fn a_longer_text_is_cut_between_characters() {
        assert_eq!(FixedText::<8>::new("推荐模型").as_str(), "推荐");
        assert_eq!(FixedText::<6>::new("推荐模型").as_str(), "推荐");
        assert_eq!(FixedText::<2>::new("推").as_str(), "");
        assert_eq!(FixedText::<4>::new("a𝄞").as_str(), "a");
    }

    #[test]
    fn texts_are_equal_when_their_characters_are() {
        assert!(FixedText::<8>::new("a") == FixedText::new("a"));
        assert!(FixedText::<8>::new("a") != FixedText::new("a\0"));
    }
}
