//! A part of an index that is written once: some rows with their ids, words, vectors and numbers. Versions of an index share it.
//!
//! Its files lie in a folder of their own, which is named after their content: the data file, and the files of one or several parts of the
//! lexical index.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::digest::{RowDigest, first};
use inner_products::Neighbours;
use kernels::statistics::normalize;
use lexical::{Language, LexicalBuilder, SegmentFiles, TextField};
use onnx::IdTable;
use onnx::stored::{DataWriter, Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// The name of the data file.
pub const DATA: &str = "data.safetensors";

/// Rows in a part of the lexical index: it is written in one step, which no cancel request interrupts. An index of many parts has larger ones.
const PART_ROWS: u32 = 20_000;
const MANY_PARTS: usize = 50;
const LARGE_PART_ROWS: u32 = 5 * PART_ROWS;

/// The files of an index or of a segment, by name.
pub type Packed = Vec<(String, Vec<u8>)>;

/// The number in the name of a segment's folder.
pub type SegmentId = u64;

pub fn folder_name(id: SegmentId) -> String {
    format!("{id:016x}")
}

/// The segment whose folder has this name.
pub fn segment_id(folder: &str) -> Option<SegmentId> {
    let id = SegmentId::from_str_radix(folder, 16).ok()?;
    (folder_name(id) == folder).then_some(id)
}

/// Whether a segment may have a file of this name.
pub fn is_file(name: &str) -> bool {
    name == DATA || part_of(name).is_some()
}

/// The number of a part of the lexical index, and the name of its file, in the name of a segment's file.
fn part_of(name: &str) -> Option<(usize, &str)> {
    let (number, file) = name.split_once('.')?;
    let part = number.parse::<usize>().ok()?;
    (part < lexical::MAX_SEGMENTS && part.to_string() == number && lexical::is_file(file)).then_some((part, file))
}

/// A segment that a version has, and its rows that were deleted since it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub id: SegmentId,
    /// Ascending.
    pub deleted: Vec<u32>,
}

/// A segment that has been written: its files by name, with its folder.
pub struct NewSegment {
    pub id: SegmentId,
    pub files: Packed,
}

/// Collects rows.
pub struct SegmentBuilder {
    fields: Vec<TextField>,
    language: Language,
    ids: Vec<String>,
    digests: Vec<u64>,
    /// [rows, columns]
    numbers: Vec<f32>,
    columns: usize,
    lexical: LexicalBuilder,
    /// Files of the parts that are written.
    parts: Packed,
    written: usize,
    /// [rows, dimensions]: of length 1, or zeros; the last rows may be missing.
    vectors: Vec<f32>,
    dimensions: Option<usize>,
}

impl SegmentBuilder {
    /// `columns` of numbers; `dimensions` of vectors, if they are known.
    pub fn new(fields: Vec<TextField>, language: Language, columns: usize, dimensions: Option<usize>) -> Result<Self> {
        Ok(Self {
            lexical: LexicalBuilder::new(fields.clone(), language)?,
            fields,
            language,
            ids: Vec::new(),
            digests: Vec::new(),
            numbers: Vec::new(),
            columns,
            parts: Vec::new(),
            written: 0,
            vectors: Vec::new(),
            dimensions,
        })
    }

    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    pub fn fields(&self) -> &[TextField] {
        &self.fields
    }

    /// Whether a row has come with a vector.
    pub fn has_vectors(&self) -> bool {
        self.dimensions.is_some()
    }

    /// Adds a row with a text, or none, for each field.
    pub fn add(
        &mut self,
        id: String,
        texts: &[Option<&str>],
        numbers: &[f32],
        digest: RowDigest,
        progress: &dyn Progress,
    ) -> Result<()> {
        let row = u32::try_from(self.ids.len()).map_err(|_| Error::TooLarge {
            what: "search index".into(),
            needed: format!("{} rows", self.ids.len()),
            limit: format!("{} rows", u32::MAX),
            hint: "Split the source.".into(),
        })?;
        if numbers.len() != self.columns {
            return Err(Error::Internal(format!("{} numbers for {} columns", numbers.len(), self.columns)));
        }
        let most = if self.written < MANY_PARTS { PART_ROWS } else { LARGE_PART_ROWS };
        if self.lexical.rows() >= most {
            self.write_part(progress)?;
        }
        memory::reserve(&mut self.ids, 1)?;
        self.lexical.add(row, texts, progress)?;
        memory::extend(&mut self.numbers, numbers)?;
        memory::extend(&mut self.digests, &[digest.row, digest.passage])?;
        self.ids.push(id);
        Ok(())
    }

    /// The vector of a row that has been added. A row without one has zeros.
    pub fn set_vector(&mut self, row: usize, vector: &[f32]) -> Result<()> {
        let id = || self.ids.get(row).cloned().unwrap_or_default();
        let dimensions = *self.dimensions.get_or_insert(vector.len());
        if vector.len() != dimensions || dimensions == 0 {
            return Err(Error::invalid(
                format!(
                    "embedding of the row with id \"{}\" has {} dimensions, others have {dimensions}",
                    id(),
                    vector.len()
                ),
                "All embeddings must have the same number of dimensions.",
            ));
        }
        if vector.iter().any(|x| !x.is_finite()) {
            return Err(Error::invalid(
                format!("embedding of the row with id \"{}\" is not finite", id()),
                "Every element must be a finite number.",
            ));
        }
        self.fill_up_to(row + 1)?;
        let to = &mut self.vectors[row * dimensions..][..dimensions];
        to.copy_from_slice(vector);
        normalize(to);
        Ok(())
    }

    /// [`set_vector`](Self::set_vector) with one of length 1, to the last bit.
    pub fn copy_vector(&mut self, row: usize, vector: &[f32]) -> Result<()> {
        self.set_vector(row, vector)?;
        self.vectors[row * vector.len()..][..vector.len()].copy_from_slice(vector);
        Ok(())
    }

    /// Zeros for the rows without a vector, up to row number `rows`.
    fn fill_up_to(&mut self, rows: usize) -> Result<()> {
        let missing = (rows * self.dimensions.unwrap_or(0)).saturating_sub(self.vectors.len());
        memory::reserve(&mut self.vectors, missing)?;
        self.vectors.resize(self.vectors.len() + missing, 0.0);
        Ok(())
    }

    fn write_part(&mut self, progress: &dyn Progress) -> Result<()> {
        let next = LexicalBuilder::new(self.fields.clone(), self.language)?;
        let files = std::mem::replace(&mut self.lexical, next).finish(progress)?;
        let number = self.written;
        self.parts.extend(files.into_iter().map(|(name, bytes)| (format!("{number}.{name}"), bytes)));
        self.written += 1;
        Ok(())
    }

    /// The files.
    pub fn finish(mut self, threads: usize, progress: &dyn Progress) -> Result<NewSegment> {
        self.write_part(progress)?;
        let rows = self.ids.len();
        self.fill_up_to(rows)?;
        let d = self.dimensions.unwrap_or(0);
        let vectors = memory::shaped(if d > 0 { rows } else { 0 }, d, std::mem::take(&mut self.vectors))?;
        let mut order: Vec<u32> = (0..rows as u32).collect();
        let by_id = |&a: &u32, &b: &u32| self.ids[a as usize].cmp(&self.ids[b as usize]);
        sort_watched(&mut order, &|| progress.check(), by_id)?;
        let twice = order.windows(2).find(|pair| self.ids[pair[0] as usize] == self.ids[pair[1] as usize]);
        if let Some(pair) = twice {
            return Err(duplicate(&self.ids[pair[0] as usize]));
        }
        progress.check()?;
        let sorted: Vec<&str> = order.iter().map(|&row| self.ids[row as usize].as_str()).collect();
        let mut place = memory::filled(0u32, rows)?;
        order.iter().zip(0..).for_each(|(&row, rank)| place[row as usize] = rank);

        let mut data = DataWriter::default();
        data.ids("ids", &IdTable::from_sorted(&sorted));
        // From an id's rank to its row, and back.
        data.owned("rows", &[rows], order);
        data.owned("places", &[rows], place);
        data.owned("digests", &[rows, 2], self.digests);
        data.owned("numbers", &[rows, self.columns], self.numbers);
        Neighbours::write(&mut data, "vectors", vectors, 0, threads, progress)?;
        let mut files = vec![(DATA.to_owned(), data.finish()?)];
        files.append(&mut self.parts);
        let mut content = Sha256::new();
        for (name, bytes) in &files {
            content.update(format!("{name} {}\n", bytes.len()));
            for part in bytes.chunks(4 << 20) {
                progress.check()?;
                content.update(part);
            }
        }
        let id = first(content);
        files.iter_mut().for_each(|(name, _)| *name = format!("{}/{name}", folder_name(id)));
        Ok(NewSegment { id, files })
    }
}

pub fn duplicate(id: &str) -> Error {
    Error::invalid(format!("duplicate id \"{id}\""), "Ids must be unique.")
}

/// An opened segment.
pub struct Segment {
    pub id: SegmentId,
    /// The index's number of its first row, a multiple of 64: a set of an index's rows has that of a segment as a part.
    pub first_row: u32,
    model: String,
    ids: IdTable,
    rows: Mapped<u32>,
    places: Mapped<u32>,
    digests: Mapped<u64>,
    numbers: MappedMatrix<f32>,
    vectors: Option<Neighbours>,
    dimensions: usize,
}

impl Segment {
    /// Opens the files of a segment, and gives those of its lexical index. `model` is for messages.
    pub fn open(
        model: &str,
        id: SegmentId,
        first_row: u32,
        files: Vec<(String, Bytes)>,
    ) -> Result<(Self, Vec<SegmentFiles>)> {
        let damaged = |reason: &str| Error::DamagedModel { model: model.into(), reason: reason.into() };
        let data = files.iter().find(|(name, _)| name == DATA).map(|(_, bytes)| bytes.clone());
        let data = data.ok_or_else(|| damaged("the data file of a segment is missing"))?;
        let stored = Files::open(model, Bytes::new(), &data)?;
        let ids = stored.ids("ids")?;
        let ([rows], to_rows) = stored.tensor("rows")?;
        let ([places], to_places) = stored.tensor("places")?;
        let ([hashed, 2], digests) = stored.tensor::<u64, 2>("digests")? else {
            return Err(damaged("its digests have another shape"));
        };
        let numbers = stored.tensor_matrix::<f32>("numbers")?;
        if [rows, places, hashed, numbers.dim().0] != [ids.len(); 4] {
            return Err(damaged("its ids do not fit its rows"));
        }
        let (with_vectors, dimensions) = stored.tensor_matrix::<f32>("vectors")?.dim();
        let vectors = match dimensions {
            0 => None,
            _ if with_vectors != rows => return Err(damaged("its vectors do not fit its rows")),
            _ => Some(Neighbours::open(&stored, "vectors", rows, dimensions)?),
        };
        drop(stored);
        let mut parts: Vec<SegmentFiles> = Vec::new();
        for (name, bytes) in files {
            let Some((part, name)) = part_of(&name) else { continue };
            while parts.len() <= part {
                parts.push(SegmentFiles { first_row, files: Vec::new() });
            }
            parts[part].files.push((name.to_owned(), bytes));
        }
        let segment = Self {
            id,
            first_row,
            model: model.into(),
            ids,
            rows: to_rows,
            places: to_places,
            digests,
            numbers,
            vectors,
            dimensions,
        };
        Ok((segment, parts))
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The columns of numbers.
    pub fn columns(&self) -> usize {
        self.numbers.dim().1
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn vectors(&self) -> Option<&Neighbours> {
        self.vectors.as_ref()
    }

    /// Its row with an id.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.rows.get(self.ids.find(id)? as usize).copied().filter(|&row| (row as usize) < self.len())
    }

    pub fn id(&self, row: u32) -> Result<&str> {
        let id = self.places.get(row as usize).and_then(|&place| self.ids.get(place));
        id.ok_or_else(|| Error::DamagedModel { model: self.model.clone(), reason: format!("row {row} has no id") })
    }

    pub fn digest(&self, row: u32) -> Option<RowDigest> {
        let at = row as usize * 2;
        Some(RowDigest { row: *self.digests.get(at)?, passage: *self.digests.get(at + 1)? })
    }

    /// The numbers of a row [columns].
    pub fn numbers(&self, row: u32) -> &[f32] {
        self.numbers.row(row as usize).unwrap_or_default()
    }
}
