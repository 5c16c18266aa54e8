// What waits in the browser's storage until the server has it: uploads, and the parts of recordings.
const database = "convoflow", version = 2;

export const uploadStore = "uploads", chunks = "chunks"; // their objects have a key

function opened(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(database, version);
    request.onupgradeneeded = () => {
      for (const store of [uploadStore, chunks]) if (!request.result.objectStoreNames.contains(store)) request.result.createObjectStore(store, { keyPath: "key" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export async function stored<T>(store: string, mode: IDBTransactionMode, use: (objects: IDBObjectStore) => IDBRequest): Promise<T> {
  const db = await opened();
  return new Promise((resolve, reject) => {
    const transaction = db.transaction(store, mode), request = use(transaction.objectStore(store));
    transaction.oncomplete = () => { db.close(); resolve(request.result); };
    transaction.onerror = transaction.onabort = () => { db.close(); reject(transaction.error); };
  });
}
