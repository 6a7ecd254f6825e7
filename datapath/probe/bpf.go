package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Programs are the probes of what the programs and maps themselves need, in the
// order in which kernels got it.
func Programs() []Probe {
	const lost, remedy = "policy cannot be enforced: plexusd does not start", "run Linux 5.10 or later, with CONFIG_BPF_SYSCALL"
	probe := func(name string, ask func() error) Probe {
		return Probe{Name: name, Required: true, Lost: lost, Remedy: remedy, Ask: ask}
	}
	return []Probe{
		probe("BPF hash maps that evict the least recently used", mapOf(mapAttr{kind: unix.BPF_MAP_TYPE_LRU_HASH, key: 4, value: 4, entries: 1})),
		probe("BPF arrays for each CPU", mapOf(mapAttr{kind: unix.BPF_MAP_TYPE_PERCPU_ARRAY, key: 4, value: 8, entries: 1})),
		probe("BPF longest-prefix maps", mapOf(trie)),
		probe("BPF maps of maps", askMapOfMaps),
		probe("BPF programs for traffic control", func() error { return load(unix.BPF_PROG_TYPE_SCHED_CLS, pass) }),
		probe("BPF loops", func() error { return load(unix.BPF_PROG_TYPE_SCHED_CLS, loop) }),
		probe("BPF ring buffers", mapOf(mapAttr{kind: unix.BPF_MAP_TYPE_RINGBUF, entries: uint32(os.Getpagesize())})),
		{
			Name: "a BPF just-in-time compiler", Ask: askJIT,
			Lost: "programs are interpreted, so that every packet costs several times as much", Remedy: "sysctl -w net.core.bpf_jit_enable=1",
		},
	}
}

// mapAttr is the part of union bpf_attr that every kernel reads for
// BPF_MAP_CREATE (linux/bpf.h).
type mapAttr struct {
	kind, key, value, entries, flags, inner uint32
}

var trie = mapAttr{kind: unix.BPF_MAP_TYPE_LPM_TRIE, key: 8, value: 4, entries: 1, flags: unix.BPF_F_NO_PREALLOC}

func mapOf(a mapAttr) func() error {
	return func() error {
		fd, err := createMap(a)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

func askMapOfMaps() error {
	inner, err := createMap(trie)
	if err != nil {
		return err
	}
	defer unix.Close(inner)
	return mapOf(mapAttr{kind: unix.BPF_MAP_TYPE_ARRAY_OF_MAPS, key: 4, value: 4, entries: 1, inner: uint32(inner)})()
}

func createMap(a mapAttr) (fd int, err error) {
	return bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// insn is struct bpf_insn: opcode, registers, offset, immediate.
func insn(opcode, registers byte, offset int16, immediate int32) uint64 {
	var b [8]byte
	b[0], b[1] = opcode, registers
	binary.NativeEndian.PutUint16(b[2:], uint16(offset))
	binary.NativeEndian.PutUint32(b[4:], uint32(immediate))
	return binary.NativeEndian.Uint64(b[:])
}

// Opcodes (Documentation/bpf/standardization/instruction-set.rst); register 0.
const (
	opMove     = unix.BPF_ALU64 | unix.BPF_MOV
	opSubtract = unix.BPF_ALU64 | unix.BPF_SUB
	opJumpIf   = unix.BPF_JMP | unix.BPF_JNE
	opExit     = unix.BPF_JMP | unix.BPF_EXIT
)

// Programs that return 0: at once, and after counting down from 10.
var (
	pass = []uint64{insn(opMove, 0, 0, 0), insn(opExit, 0, 0, 0)}
	loop = []uint64{insn(opMove, 0, 0, 10), insn(opSubtract, 0, 0, 1), insn(opJumpIf, 0, -2, 0), insn(opExit, 0, 0, 0)}
)

// progAttr is the same for BPF_PROG_LOAD.
type progAttr struct {
	kind, count    uint32
	insns, license uint64
	logLevel, size uint32
	log            uint64
}

func load(kind uint32, program []uint64) error {
	fd, err := loadProgram(kind, program)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func loadProgram(kind uint32, program []uint64) (fd int, err error) {
	license := []byte("GPL\x00")
	a := progAttr{
		kind: kind, count: uint32(len(program)),
		insns: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&a), unsafe.Sizeof(a))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	return fd, err
}

// linkAttr is the same for BPF_LINK_CREATE.
type linkAttr struct {
	program, device, at, flags uint32
	_                          [6]uint32 // of tcx: relative to nobody
}

// Places to attach to (enum bpf_attach_type).
const (
	atXDP        = 37
	atTCXIngress = 46
)

// attach attaches a program that lets everything pass to loopback, and takes it
// away again.
func attach(kind uint32, program []uint64, at uint32) error {
	fd, err := loadProgram(kind, program)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	a := linkAttr{program: uint32(fd), device: loopback, at: at}
	link, err := bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err != nil {
		return err
	}
	return unix.Close(link)
}

// askJIT looks whether a program has been compiled (struct bpf_prog_info).
func askJIT() error {
	fd, err := loadProgram(unix.BPF_PROG_TYPE_SCHED_CLS, pass)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var info struct {
		kind, id uint32
		tag      [8]byte
		compiled uint32 // bytes
		_        [7]uint32
	}
	a := struct {
		fd, size uint32
		info     uint64
	}{uint32(fd), uint32(unsafe.Sizeof(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&a), unsafe.Sizeof(a))
	runtime.KeepAlive(&info)
	if err == nil && info.compiled == 0 {
		err = Absent(errors.New("the kernel did not compile a program"))
	}
	return err
}

// askMemory finds out whether maps count as locked memory, as before Linux 5.11,
// and if they do, whether the limit of that can be lifted.
func askMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		return err
	}
	counted := mapOf(mapAttr{kind: unix.BPF_MAP_TYPE_ARRAY, key: 4, value: 4, entries: 1})()
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || counted == nil || errors.Is(counted, errMissing) {
		return err
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		if os.Geteuid() == 0 { // in a container, root may be without that right
			return fmt.Errorf("%w: raise the limit of locked memory: %w", errMissing, err)
		}
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
}

// bpf is bpf(2). An error about what was asked for means that the kernel does not
// know it.
func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN: // a signal came while the verifier was at work
			continue
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.E2BIG:
			return -1, Absent(fmt.Errorf("bpf(2): %w", errno))
		}
		return -1, fmt.Errorf("bpf(2): %w", errno)
	}
}
