//! What a program writes, within bounds: whole lines of its standard output, the end of its standard error.

/// Bytes to lines. A line that grows beyond the limit is refused while it grows.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins, and up to where no line feed was found.
    start: usize,
    searched: usize,
    limit: usize,
}

/// A line is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub fn new(limit: usize) -> Self {
        Lines { buffer: Vec::new(), start: 0, searched: 0, limit }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its line feed.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').map(|found| self.searched + found);
        let length = end.unwrap_or(self.buffer.len()) - self.start;
        if length > self.limit {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.buffer.get(self.start..end).unwrap_or_default().to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }

    /// What stands behind the last line feed.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.split_off(self.start);
        (self.buffer, self.start, self.searched) = (Vec::new(), 0, 0);
        Some(rest).filter(|rest| !rest.is_empty())
    }
}

/// The last bytes of a stream, however much came.
#[derive(Default)]
pub(super) struct Tail {
    bytes: std::collections::VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    const MOST: usize = 64 * 1024;

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(Self::MOST);
        self.bytes.drain(..surplus);
        self.dropped += surplus as u64;
    }

    /// As text. What was cut begins with a whole line: half a secret would not be known for one.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let readable = |text: &str| text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "");
        if self.dropped == 0 {
            return readable(&text);
        }
        let (cut, whole) = text.split_once('\n').unwrap_or((&text, ""));
        format!("[the first {} bytes are left out]\n{}", self.dropped + cut.len() as u64, readable(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, pieces: &[&str]) -> Result<Vec<String>, TooLong> {
        let mut lines = Lines::new(limit);
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece.as_bytes());
            while let Some(line) = lines.next()? {
                out.push(String::from_utf8(line).unwrap());
            }
        }
        out.extend(lines.rest().map(|rest| format!("rest {}", String::from_utf8(rest).unwrap())));
        Ok(out)
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        assert_eq!(lines(9, &["ab\nc", "", "d\n\n", "e"]).unwrap(), ["ab", "cd", "", "rest e"]);
        assert_eq!(lines(9, &["\n", "x\n"]).unwrap(), ["", "x"]);
        assert_eq!(lines(3, &["abc\n", "ab", "c\n"]).unwrap(), ["abc", "abc"]);
        assert_eq!(lines(3, &["ab", "cd"]), Err(TooLong));
        assert_eq!(lines(3, &["a\nabcd\n"]), Err(TooLong));
        assert_eq!(lines(3, &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_tail_keeps_the_last_whole_lines() {
        let mut tail = Tail::default();
        tail.push(b"one\ntwo\x1b[1m\n");
        assert_eq!(tail.text(), "one\ntwo[1m\n");
        for _ in 0..100_000 {
            tail.push(b"0123456789\n");
        }
        let text = tail.text();
        assert!(text.len() <= Tail::MOST + 64, "{}", text.len());
        assert!(text.starts_with("[the first ") && text.lines().nth(1) == Some("0123456789"), "{}", &text[..90]);
        tail.push(&vec![b'x'; Tail::MOST * 2]);
        assert_eq!(tail.text().lines().count(), 1);
    }
}
