// Command export-check verifies an export with golang.org/x/mod/sumdb/note and .../tlog, and with no code of ours: the
// checkpoint's signature, every tile against its root, every entry against its leaf, every inclusion and consistency
// proof file. It exits 0 where all of it holds, 1 where anything does not, 2 where it was called wrongly.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: export-check EXPORT_DIR LOG_VKEY")
		os.Exit(2)
	}
	counts, err := check(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Println("REFUSED by golang.org/x/mod:", err)
		os.Exit(1)
	}
	fmt.Printf("OK golang.org/x/mod: %s\n", counts)
}

// check verifies the export in dir and says how much of what it saw.
func check(dir, vkey string) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", fmt.Errorf("log key: %w", err)
	}
	tree, err := openCheckpoint(filepath.Join(dir, "checkpoint"), verifier)
	if err != nil {
		return "", err
	}
	folder := &folder{dir: dir}
	reader := tlog.TileHashReader(tree, folder)
	entries, err := checkEntries(folder, tree, reader)
	if err != nil {
		return "", err
	}
	proofs, err := checkProofs(dir, tree, verifier, reader)
	if err != nil {
		return "", err
	}
	grown, err := checkConsistency(dir, tree, verifier, reader)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d entries, %d tile reads, %d inclusion proofs, %d consistency proofs under %s",
		entries, folder.read, proofs, grown, tree.Hash), nil
}

func openCheckpoint(path string, verifier note.Verifier) (tlog.Tree, error) {
	message, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	return parseCheckpoint(message, verifier)
}

func parseCheckpoint(message []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("checkpoint: not an origin, a size and a root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	return tlog.Tree{N: size, Hash: root}, nil
}

// folder serves tiles of an export. Its paths are those of tlog without the height, which is always 8.
type folder struct {
	dir  string
	read int
}

func (f *folder) Height() int { return tileHeight }

func (f *folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		bytes, err := os.ReadFile(f.path(tile))
		if err != nil {
			return nil, err
		}
		data[i] = bytes
		f.read++
	}
	return data, nil
}

func (f *folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f *folder) path(tile tlog.Tile) string {
	return filepath.Join(f.dir, strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
}

// checkEntries reads every bundle and every tile of hashes, and proves every leaf through the tiles.
func checkEntries(f *folder, tree tlog.Tree, reader tlog.HashReader) (int64, error) {
	for first := int64(0); first < tree.N; first += 1 << tileHeight {
		width := tree.N - first
		if width > 1<<tileHeight {
			width = 1 << tileHeight
		}
		tile := tlog.Tile{H: tileHeight, L: 0, N: first >> tileHeight, W: int(width)}
		path := strings.Replace(f.path(tile), string(filepath.Separator)+"tile"+string(filepath.Separator)+"0",
			string(filepath.Separator)+"tile"+string(filepath.Separator)+"entries", 1)
		bundle, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		leaves, err := reader.ReadHashes(indexes)
		if err != nil {
			return 0, fmt.Errorf("tiles below entry %d: %w", first, err)
		}
		for i := int64(0); i < width; i++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return 0, fmt.Errorf("entry %d is cut", first+i)
			}
			length := int(binary.BigEndian.Uint16(bundle))
			if tlog.RecordHash(bundle[2:2+length]) != leaves[i] {
				return 0, fmt.Errorf("entry %d does not hash to its leaf", first+i)
			}
			bundle = bundle[2+length:]
		}
		if len(bundle) != 0 {
			return 0, fmt.Errorf("bytes behind entry %d", first+width-1)
		}
	}
	return tree.N, nil
}

func checkProofs(dir string, tree tlog.Tree, verifier note.Verifier, reader tlog.HashReader) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "proofs", "*"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		if err := checkProof(file, tree, verifier, reader); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
	}
	return len(files), nil
}

func checkProof(file string, tree tlog.Tree, verifier note.Verifier, reader tlog.HashReader) error {
	head, hashes, signed, err := splitProof(file, verifier)
	if err != nil {
		return err
	}
	if len(head) != 2 || head[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(head[1], "index "), 10, 64)
	if err != nil || filepath.Base(file) != fmt.Sprintf("%d.tlog-proof", index) || index >= tree.N {
		return errors.New("another index than its name says")
	}
	leaves, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	return tlog.CheckRecord(tlog.RecordProof(hashes), signed.N, signed.Hash, index, leaves[0])
}

func checkConsistency(dir string, tree tlog.Tree, verifier note.Verifier, reader tlog.HashReader) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "consistency", "*"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		head, hashes, signed, err := splitProof(file, verifier)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		old, err := strconv.ParseInt(strings.TrimPrefix(strings.Join(head, "\n"), "old "), 10, 64)
		if err != nil || filepath.Base(file) != fmt.Sprintf("%d-%d.tlog-consistency", old, signed.N) {
			return 0, fmt.Errorf("%s: other sizes than its name says", file)
		}
		if old == 0 {
			// The empty tree is consistent with every other, and tlog does not speak of it.
			if len(hashes) != 0 {
				return 0, fmt.Errorf("%s: hashes where there is nothing to prove", file)
			}
			continue
		}
		was, err := tlog.TreeHash(old, reader)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		if err := tlog.CheckTree(tlog.TreeProof(hashes), signed.N, signed.Hash, old, was); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
	}
	return len(files), nil
}

// splitProof reads a proof file: its head, its hashes and the checkpoint behind the empty line.
func splitProof(file string, verifier note.Verifier) (head []string, hashes []tlog.Hash, signed tlog.Tree, err error) {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, signed, err
	}
	top, checkpoint, found := strings.Cut(string(bytes), "\n\n")
	if !found {
		return nil, nil, signed, errors.New("no checkpoint")
	}
	for _, line := range strings.Split(top, "\n") {
		hash, err := tlog.ParseHash(line)
		switch {
		case err == nil:
			hashes = append(hashes, hash)
		case len(hashes) > 0:
			return nil, nil, signed, errors.New("a line that is no hash")
		default:
			head = append(head, line)
		}
	}
	signed, err = parseCheckpoint([]byte(checkpoint), verifier)
	if err != nil {
		return nil, nil, signed, err
	}
	return head, hashes, signed, checkCosignatures(checkpoint)
}

// checkCosignatures verifies the witnesses' lines of a checkpoint against the keys named in the environment, as
// newline-separated vkeys of type 4, which golang.org/x/mod itself does not know.
func checkCosignatures(checkpoint string) error {
	text, lines, _ := strings.Cut(checkpoint, "\n\n")
	for _, vkey := range strings.Fields(os.Getenv("WITNESS_VKEYS")) {
		parts := strings.SplitN(vkey, "+", 3)
		key, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
		if err != nil || len(parts) != 3 || len(key) != 33 || key[0] != 4 {
			return fmt.Errorf("%s is no witness key", vkey)
		}
		id := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
		found := false
		for _, line := range strings.Split(lines, "\n") {
			prefix := "— " + parts[0] + " "
			encoded, is := strings.TrimPrefix(line, prefix), strings.HasPrefix(line, prefix)
			signature, err := base64.StdEncoding.DecodeString(encoded)
			if !is || err != nil || len(signature) != 76 || string(signature[:4]) != string(id[:4]) {
				continue
			}
			time := binary.BigEndian.Uint64(signature[4:12])
			message := fmt.Sprintf("cosignature/v1\ntime %d\n%s\n", time, text)
			if !ed25519.Verify(ed25519.PublicKey(key[1:]), []byte(message), signature[12:]) {
				return fmt.Errorf("the cosignature by %s does not hold", parts[0])
			}
			found = true
		}
		if !found {
			return fmt.Errorf("%s did not cosign", parts[0])
		}
	}
	return nil
}
