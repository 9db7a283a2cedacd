// A SHIM FOR TESTS, not an MPI library: exports functions of MPI 5's standard ABI (as libmpi_abi.so does) over an MPI
// that is installed, whose own handles, constants and statuses it translates to and from the standard's. It has the
// functions that src/transport/mpi/library calls, and no others.
//
// Built by standard-abi-shim.ts with the compiler of the MPI below it (mpicc).

#include <mpi.h>
#include <stdint.h>
#include <string.h>

// The standard's types and constants (MPI 5.0, chapter 20). Handles are as wide as addresses.
typedef intptr_t abi_handle;
typedef struct {
  int source;
  int tag;
  int error;
  int internal[5];
} abi_status;

#define ABI_COMM_WORLD 0x101
#define ABI_COMM_SELF 0x102
#define ABI_MESSAGE_NULL 0x128
#define ABI_ERRORS_ARE_FATAL 0x141
#define ABI_ERRORS_RETURN 0x142
#define ABI_REQUEST_NULL 0x180
#define ABI_BYTE 0x247
#define ABI_ANY_SOURCE (-1)
#define ABI_ANY_TAG (-2)
#define ABI_TAG_UB 501
#define ABI_THREAD_FUNNELED 1024
#define ABI_THREAD_SERIALIZED 2048
#define ABI_THREAD_MULTIPLE 4096

// Handles of the MPI below that are no constants pass through, moved out of the range of the standard's constants.
#define ABI_OFFSET 0x10000

#define EXPORT(name) __asm__("MPI_" #name) __attribute__((visibility("default")))

static intptr_t from_abi(abi_handle handle) { return handle - ABI_OFFSET; }

#ifdef OPEN_MPI
#define TO_ABI(native) ((abi_handle)(native) + ABI_OFFSET)
#else
// An int, which may be negative.
#define TO_ABI(native) ((abi_handle)(uint32_t)(native) + ABI_OFFSET)
#endif

static MPI_Comm comm(abi_handle handle) {
  if (handle == ABI_COMM_WORLD) return MPI_COMM_WORLD;
  if (handle == ABI_COMM_SELF) return MPI_COMM_SELF;
  return handle < ABI_OFFSET ? MPI_COMM_NULL : (MPI_Comm)from_abi(handle);
}

static MPI_Datatype type(abi_handle handle) { return handle == ABI_BYTE ? MPI_BYTE : MPI_DATATYPE_NULL; }

static MPI_Request request(abi_handle handle) {
  return handle < ABI_OFFSET ? MPI_REQUEST_NULL : (MPI_Request)from_abi(handle);
}

static abi_handle abi_request(MPI_Request native) {
  return native == MPI_REQUEST_NULL ? ABI_REQUEST_NULL : TO_ABI(native);
}

static int source(int abi) { return abi == ABI_ANY_SOURCE ? MPI_ANY_SOURCE : abi; }
static int tag(int abi) { return abi == ABI_ANY_TAG ? MPI_ANY_TAG : abi; }

// The status of the MPI below, whole but for what the standard has fields for, is kept in the standard's spare words.
static void abi_status_of(const MPI_Status *native, abi_status *status) {
  MPI_Status rest = *native;
  memset(status, 0, sizeof *status);
  status->source = native->MPI_SOURCE == MPI_ANY_SOURCE ? ABI_ANY_SOURCE : native->MPI_SOURCE;
  status->tag = native->MPI_TAG == MPI_ANY_TAG ? ABI_ANY_TAG : native->MPI_TAG;
  status->error = native->MPI_ERROR;
#ifdef OPEN_MPI
  memcpy(&status->internal[0], &rest._ucount, sizeof rest._ucount);
  status->internal[2] = rest._cancelled;
#else
  status->internal[0] = rest.count_lo;
  status->internal[1] = rest.count_hi_and_cancelled;
#endif
}

static MPI_Status status_of(const abi_status *status) {
  MPI_Status native;
  memset(&native, 0, sizeof native);
  native.MPI_SOURCE = status->source;
  native.MPI_TAG = status->tag;
  native.MPI_ERROR = status->error;
#ifdef OPEN_MPI
  memcpy(&native._ucount, &status->internal[0], sizeof native._ucount);
  native._cancelled = status->internal[2];
#else
  native.count_lo = status->internal[0];
  native.count_hi_and_cancelled = status->internal[1];
#endif
  return native;
}

static int thread_level(int abi) {
  if (abi >= ABI_THREAD_MULTIPLE) return MPI_THREAD_MULTIPLE;
  if (abi >= ABI_THREAD_SERIALIZED) return MPI_THREAD_SERIALIZED;
  return abi >= ABI_THREAD_FUNNELED ? MPI_THREAD_FUNNELED : MPI_THREAD_SINGLE;
}

static int abi_thread_level(int native) {
  if (native == MPI_THREAD_MULTIPLE) return ABI_THREAD_MULTIPLE;
  if (native == MPI_THREAD_SERIALIZED) return ABI_THREAD_SERIALIZED;
  return native == MPI_THREAD_FUNNELED ? ABI_THREAD_FUNNELED : 0;
}

int abi_get_version(int *major, int *minor) EXPORT(Abi_get_version);
int abi_get_version(int *major, int *minor) {
  *major = 1;
  *minor = 0;
  return MPI_SUCCESS;
}

int abi_init_thread(int *argc, char ***argv, int required, int *provided) EXPORT(Init_thread);
int abi_init_thread(int *argc, char ***argv, int required, int *provided) {
  int native = MPI_THREAD_SINGLE;
  int code = PMPI_Init_thread(argc, argv, thread_level(required), &native);
  *provided = abi_thread_level(native);
  return code;
}

int abi_query_thread(int *provided) EXPORT(Query_thread);
int abi_query_thread(int *provided) {
  int native = MPI_THREAD_SINGLE;
  int code = PMPI_Query_thread(&native);
  *provided = abi_thread_level(native);
  return code;
}

int abi_initialized(int *flag) EXPORT(Initialized);
int abi_initialized(int *flag) { return PMPI_Initialized(flag); }

int abi_finalized(int *flag) EXPORT(Finalized);
int abi_finalized(int *flag) { return PMPI_Finalized(flag); }

int abi_finalize(void) EXPORT(Finalize);
int abi_finalize(void) { return PMPI_Finalize(); }

int abi_abort(abi_handle c, int code) EXPORT(Abort);
int abi_abort(abi_handle c, int code) { return PMPI_Abort(comm(c), code); }

int abi_comm_rank(abi_handle c, int *rank) EXPORT(Comm_rank);
int abi_comm_rank(abi_handle c, int *rank) { return PMPI_Comm_rank(comm(c), rank); }

int abi_comm_size(abi_handle c, int *size) EXPORT(Comm_size);
int abi_comm_size(abi_handle c, int *size) { return PMPI_Comm_size(comm(c), size); }

int abi_comm_dup(abi_handle c, abi_handle *copy) EXPORT(Comm_dup);
int abi_comm_dup(abi_handle c, abi_handle *copy) {
  MPI_Comm native = MPI_COMM_NULL;
  int code = PMPI_Comm_dup(comm(c), &native);
  *copy = TO_ABI(native);
  return code;
}

int abi_comm_free(abi_handle *c) EXPORT(Comm_free);
int abi_comm_free(abi_handle *c) {
  MPI_Comm native = comm(*c);
  return PMPI_Comm_free(&native);
}

int abi_comm_get_attr(abi_handle c, int key, void *value, int *flag) EXPORT(Comm_get_attr);
int abi_comm_get_attr(abi_handle c, int key, void *value, int *flag) {
  return PMPI_Comm_get_attr(comm(c), key == ABI_TAG_UB ? MPI_TAG_UB : MPI_KEYVAL_INVALID, value, flag);
}

int abi_comm_set_errhandler(abi_handle c, abi_handle handler) EXPORT(Comm_set_errhandler);
int abi_comm_set_errhandler(abi_handle c, abi_handle handler) {
  if (handler == ABI_ERRORS_RETURN) return PMPI_Comm_set_errhandler(comm(c), MPI_ERRORS_RETURN);
  if (handler == ABI_ERRORS_ARE_FATAL) return PMPI_Comm_set_errhandler(comm(c), MPI_ERRORS_ARE_FATAL);
  return PMPI_Comm_set_errhandler(comm(c), MPI_ERRHANDLER_NULL);
}

int abi_error_string(int code, char *text, int *length) EXPORT(Error_string);
int abi_error_string(int code, char *text, int *length) { return PMPI_Error_string(code, text, length); }

int abi_get_library_version(char *text, int *length) EXPORT(Get_library_version);
int abi_get_library_version(char *text, int *length) { return PMPI_Get_library_version(text, length); }

int abi_isend(const void *bytes, int count, abi_handle t, int to, int tag_, abi_handle c, abi_handle *r) EXPORT(Isend);
int abi_isend(const void *bytes, int count, abi_handle t, int to, int tag_, abi_handle c, abi_handle *r) {
  MPI_Request native = MPI_REQUEST_NULL;
  int code = PMPI_Isend(bytes, count, type(t), to, tag_, comm(c), &native);
  *r = abi_request(native);
  return code;
}

int abi_irecv(void *bytes, int count, abi_handle t, int from, int tag_, abi_handle c, abi_handle *r) EXPORT(Irecv);
int abi_irecv(void *bytes, int count, abi_handle t, int from, int tag_, abi_handle c, abi_handle *r) {
  MPI_Request native = MPI_REQUEST_NULL;
  int code = PMPI_Irecv(bytes, count, type(t), source(from), tag(tag_), comm(c), &native);
  *r = abi_request(native);
  return code;
}

int abi_improbe(int from, int tag_, abi_handle c, int *flag, abi_handle *message, abi_status *status) EXPORT(Improbe);
int abi_improbe(int from, int tag_, abi_handle c, int *flag, abi_handle *message, abi_status *status) {
  MPI_Message native = MPI_MESSAGE_NULL;
  MPI_Status told;
  int code = PMPI_Improbe(source(from), tag(tag_), comm(c), flag, &native, &told);
  if (code != MPI_SUCCESS || !*flag) return code;
  *message = TO_ABI(native);
  abi_status_of(&told, status);
  return code;
}

int abi_imrecv(void *bytes, int count, abi_handle t, abi_handle *message, abi_handle *r) EXPORT(Imrecv);
int abi_imrecv(void *bytes, int count, abi_handle t, abi_handle *message, abi_handle *r) {
  MPI_Message taken = (MPI_Message)from_abi(*message);
  MPI_Request native = MPI_REQUEST_NULL;
  int code = PMPI_Imrecv(bytes, count, type(t), &taken, &native);
  *message = ABI_MESSAGE_NULL;
  *r = abi_request(native);
  return code;
}

int abi_test(abi_handle *r, int *flag, abi_status *status) EXPORT(Test);
int abi_test(abi_handle *r, int *flag, abi_status *status) {
  MPI_Request native = request(*r);
  MPI_Status told;
  int code = PMPI_Test(&native, flag, &told);
  *r = abi_request(native);
  if (code == MPI_SUCCESS && *flag) abi_status_of(&told, status);
  return code;
}

int abi_cancel(abi_handle *r) EXPORT(Cancel);
int abi_cancel(abi_handle *r) {
  MPI_Request native = request(*r);
  return PMPI_Cancel(&native);
}

int abi_test_cancelled(const abi_status *status, int *flag) EXPORT(Test_cancelled);
int abi_test_cancelled(const abi_status *status, int *flag) {
  MPI_Status native = status_of(status);
  return PMPI_Test_cancelled(&native, flag);
}

int abi_get_count(const abi_status *status, abi_handle t, int *count) EXPORT(Get_count);
int abi_get_count(const abi_status *status, abi_handle t, int *count) {
  MPI_Status native = status_of(status);
  return PMPI_Get_count(&native, type(t), count);
}
